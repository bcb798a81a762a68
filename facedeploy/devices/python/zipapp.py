"""This package as one file that a device's Python runs: `python3 FILE`. The same code gives the same bytes."""

from __future__ import annotations

import functools
import io
import zipfile
from pathlib import Path

from facedeploy.core.optional_imports import installed_versions

_PACKAGE = Path(__file__).parents[2]
_LEFT_OUT = ("cli", "__main__.py")  # Commands, for which the device would need typer.
_EPOCH = (1980, 1, 1, 0, 0, 0)  # The first day of a zip file.
# Any Python must understand this, to say that it is too old.
_MAIN = """\
import sys
if sys.version_info < (3, 10):
    sys.exit("Python %d.%d is too old: facedeploy needs 3.10" % sys.version_info[:2])
from facedeploy.devices.python.worker import main
main()
"""


@functools.cache
def make_bundle() -> bytes:
    """A zip file of every module that runs on a device, with a `__main__.py` that starts `worker.main`.

    Where this package is installed, its version comes along as importlib.metadata finds it (packaging.python.org, "Core
    metadata specifications"): records say it.
    """
    modules = sorted(p for p in _PACKAGE.rglob("*.py") if p.relative_to(_PACKAGE).parts[0] not in _LEFT_OUT)
    files = {f"{_PACKAGE.name}/{p.relative_to(_PACKAGE).as_posix()}": p.read_bytes() for p in modules}
    for version in installed_versions(_PACKAGE.name).values():
        said = f"Metadata-Version: 2.1\nName: {_PACKAGE.name}\nVersion: {version}\n"
        files[f"{_PACKAGE.name}-{version}.dist-info/METADATA"] = said.encode()
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, data in {"__main__.py": _MAIN.encode(), **files}.items():
            info = zipfile.ZipInfo(name, _EPOCH)
            info.compress_type, info.create_system, info.external_attr = zipfile.ZIP_DEFLATED, 3, 0o100600 << 16
            archive.writestr(info, data)
    return made.getvalue()
