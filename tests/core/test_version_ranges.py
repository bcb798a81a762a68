"""Versions of other packages, against the ranges that this one's metadata asks for."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest

from facedeploy.core.version_ranges import complaint, installed_version, wanted
from tests.support.installed import ask_for

ASKED = (
    "numpy>=1.24",
    'onnxruntime>=1.25; python_version >= "3.11" and extra == "onnx"',
    'onnxruntime>=1.19; python_version < "3.11" and extra == "onnx"',
    'ray>=2,<3; extra == "ray"',
    'facedeploy[onnx]; extra == "export"',
)


@pytest.mark.parametrize(
    ("module", "version", "python", "said"),
    [
        ("onnxruntime", "1.25.0", "3.11.7", ""),
        ("onnxruntime", "1.32.0", "3.13.0", ""),
        ("onnxruntime", "1.24.4", "3.11.7", "1.24.4 is too old (1.25 or newer is needed)"),
        ("onnxruntime", "1.24.4", "3.10.13", ""),
        ("onnxruntime", "1.18.1", "3.10.13", "1.18.1 is too old (1.19 or newer is needed)"),
        ("numpy", "1.21.5", "3.10.12", "1.21.5 is too old (1.24 or newer is needed)"),
        ("numpy", "2.0.0rc1", "3.10.12", ""),
        ("numpy", "2.4.6+somebody", "3.11.7", ""),
        ("numpy", "", "3.11.7", ""),
        ("numpy", "of my own", "3.11.7", ""),
        ("ray", "3.1", "3.11.7", "3.1 does not fit (<3,>=2 is needed)"),
        ("ncnn", "0.1", "3.11.7", ""),
    ],
)
def test_a_version_is_judged_by_the_metadata(
    module: str, version: str, python: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask_for(tmp_path, monkeypatch, *ASKED)
    assert complaint(module, version, python) == said


def test_a_module_has_the_version_of_the_package_that_brought_it() -> None:
    assert installed_version("onnxruntime") == metadata.version("onnxruntime")
    assert installed_version("cv2") == metadata.version("opencv-python-headless")
    assert installed_version("of_nobody") == ""


def test_what_is_installed_asks_for_what_doctor_compares_with() -> None:
    assert wanted("numpy").startswith(">=")
    assert wanted("onnxruntime").startswith(">=")
    assert wanted("of_nobody") == ""
