"""The small artifacts that devices are given in the tests."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from facedeploy.artifact.folder import Artifact
from facedeploy.export.exporter import export
from tests.benchmarks.test_matrix import CONFIG
from tests.support.own_networks import decoded


def export_tiny(folder: Path) -> Artifact:
    """folder/tiny: a tiny detector, whose ONNX file and settings lie beside it."""
    decoded(folder / "face.onnx")
    (folder / "face.toml").write_text(CONFIG)
    return export(str(folder / "face.onnx"), "onnx-fp32", output=folder / "tiny")


def export_pending(folder: Path, output: Path) -> Artifact:
    """The same for TensorRT, as a machine without it writes it. folder: of `export_tiny`."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("tensorrt", "tensorrt_rtx"):
            patch.setitem(sys.modules, module, None)
        return export(str(folder / "face.onnx"), "trt-fp32", output=output)
