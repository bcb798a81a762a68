"""Manifests that are changed behind the exporter's back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from facedeploy.artifact.digest import digest_of
from facedeploy.artifact.folder import MANIFEST

Edit = Callable[[dict[str, Any]], object]


def edit(folder: Path, change: Edit, *, sign: bool = True) -> None:
    """Change what a manifest says.

    Args:
        folder: Of the artifact.
        change: Of the manifest, in place.
        sign: Whether the digest is made to fit, as by somebody who knows of it.
    """
    path = folder / MANIFEST
    data = json.loads(path.read_text())
    change(data)
    if sign and "digest" in data:
        data["digest"] = digest_of(data)
    path.write_text(json.dumps(data))
