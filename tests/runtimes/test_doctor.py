"""What `facedeploy doctor` says of versions that this package does not work with: the real ones, asked to be newer."""

from __future__ import annotations

from pathlib import Path

import pytest

from facedeploy.runtimes.doctor import BackendStatus, diagnose
from tests.support.installed import ask_for


def rows() -> dict[str, BackendStatus]:
    return {row.backend: row for row in diagnose()}


@pytest.mark.parametrize(
    ("line", "backend", "said"),
    [
        (
            'onnxruntime>=99; extra == "onnx"',
            "onnx",
            "is too old (99 or newer is needed): run `pip install 'facedeploy[onnx]'`",
        ),
        ('openvino>=2025,<2026; extra == "openvino"', "openvino", "(<2026,>=2025 is needed)"),
        ('ncnn>=99; extra == "ncnn"', "ncnn", "facedeploy[ncnn]"),
        ("opencv-python-headless>=99", "openvino", "cv2"),
    ],
)
def test_a_backend_of_another_version_does_not_count(
    line: str, backend: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip({"onnx": "onnxruntime"}.get(backend, backend))
    assert rows()[backend].run
    ask_for(tmp_path, monkeypatch, line)
    row = rows()[backend]
    assert not row.run
    assert not row.export
    assert said in row.note


@pytest.mark.parametrize(
    ("package", "hurt"), [("pnnx", {"ncnn"}), ("torch", {"torch", "onnx", "openvino", "ncnn", "trt"})]
)
def test_what_only_exports_need_keeps_nothing_from_running(
    package: str, hurt: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(package)
    before = rows()
    ask_for(tmp_path, monkeypatch, f'{package}>=99999999; extra == "export"')
    for backend, row in rows().items():
        assert row.export is (before[backend].export and backend not in hurt)
        assert row.run is (before[backend].run and (package, backend) != ("torch", "torch"))
        assert ("facedeploy[export]" in row.note) is (backend in hurt)
