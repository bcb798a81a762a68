"""Import a backend where it is used, or say which extra installs it."""

from __future__ import annotations

import importlib
import importlib.metadata
from types import ModuleType
from typing import Any

from facedeploy.core.errors import BackendUnavailableError


def require(module: str, extra: str) -> Any:
    """Import a module that an extra installs.

    Args:
        module: Its name.
        extra: Which extra of this package installs it.

    Returns:
        The module.

    Raises:
        BackendUnavailableError: it is not installed; the message names the extra.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        missing = error.name or module
        msg = f"{missing} is not installed: run `pip install 'facedeploy[{extra}]'`"
        if missing.split(".")[0] != module.split(".")[0]:
            msg = f"{module} does not import ({error}): run `pip install 'facedeploy[{extra}]'`"
        raise BackendUnavailableError(msg) from error


def find(*modules: str) -> ModuleType | None:
    """Import the first of `modules` that is installed, or None."""
    for name in modules:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None


def installed_versions(*packages: str) -> dict[str, str]:
    """Versions of those of the packages that are installed."""
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
