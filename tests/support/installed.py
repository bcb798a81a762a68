"""This package, installed as another release of it would be: what its metadata asks for is what a test says."""

from __future__ import annotations

from pathlib import Path

import pytest

from facedeploy.core import version_ranges


def ask_for(folder: Path, monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    """Have the metadata of this package ask for other packages, until the test ends.

    Args:
        folder: an empty one, which goes first where Python looks.
        monkeypatch: of the test.
        lines: as a wheel has them, such as 'onnxruntime>=1.25; extra == "onnx"'.
    """
    extras = sorted({line.split('extra == "')[1].rstrip('"') for line in lines if "extra ==" in line})
    said = ["Metadata-Version: 2.1", "Name: facedeploy", "Version: 0.0", *(f"Provides-Extra: {e}" for e in extras)]
    place = folder / "facedeploy-0.0.dist-info"
    place.mkdir()
    (place / "METADATA").write_text("\n".join([*said, *(f"Requires-Dist: {line}" for line in lines)]) + "\n")
    monkeypatch.syspath_prepend(str(folder))
    # What was read is kept for the life of a process.
    monkeypatch.setattr(version_ranges, "_asked", version_ranges._asked.__wrapped__)
