"""`facedeploy doctor`: which backends work here, and how to get the others."""

from __future__ import annotations

from dataclasses import dataclass

from facedeploy.core.errors import BackendUnavailableError
from facedeploy.core.optional_imports import installed_versions, require
from facedeploy.core.version_ranges import complaint, installed_version


@dataclass(frozen=True)
class BackendStatus:
    """Whether a backend works on this machine.

    Attributes:
        backend: Its name.
        versions: Package -> version, of what is installed; one outside the range that this package asks for does not
            count as working.
        export: Whether this machine can compile for the backend.
        run: Whether this machine can run what was compiled.
        note: What is missing or too old, and how to get it.
    """

    backend: str
    versions: dict[str, str]
    export: bool
    run: bool
    note: str


def diagnose() -> tuple[BackendStatus, ...]:
    """Import every backend for real and say what it can do here."""
    exporter, exporter_note = _try(
        ("torch", "export"), ("onnx", "export"), ("onnxscript", "export"), ("onnxsim", "export")
    )
    rows = []
    for backend, packages, modules in (
        ("torch", ("torch",), (("torch", "export"),)),
        ("onnx", ("onnxruntime",), (("onnxruntime", "onnx"),)),
        ("openvino", ("openvino",), (("openvino", "openvino"),)),
        ("ncnn", ("ncnn", "pnnx"), (("ncnn", "ncnn"),)),
    ):
        extra = modules[-1][1]
        works, note = _try(("numpy", extra), ("cv2", extra), *modules)
        converter, converter_note = _try(("pnnx", "export")) if backend == "ncnn" else (True, "")
        rows.append(
            BackendStatus(
                backend,
                installed_versions(*packages),
                export=works and exporter and converter,
                run=works,
                note=note or converter_note or exporter_note,
            )
        )
    return (*rows, _tensorrt(exporter, exporter_note))


def _tensorrt(exporter: bool, exporter_note: str) -> BackendStatus:
    from facedeploy.runtimes.tensorrt_api import find_tensorrt, gpu_available

    module = find_tensorrt()
    versions = installed_versions("tensorrt", "tensorrt-rtx-cu13")
    if module is None:
        note = "no TensorRT: export writes the graph and `facedeploy build` on the device makes the engine; "
        note += "for a builder here, `pip install 'facedeploy[tensorrt]'` or `'facedeploy[tensorrt-rtx]'`"
        return BackendStatus("trt", versions, export=exporter, run=False, note=exporter_note or note)
    name = module.__name__
    if wrong := complaint(name, installed_version(name) or str(module.__version__)):
        return BackendStatus("trt", versions, export=False, run=False, note=f"{name} {wrong}")
    gpu = gpu_available()
    note = "" if gpu else "no CUDA device: engines are built here and run elsewhere"
    return BackendStatus("trt", versions, export=exporter, run=gpu, note=exporter_note or note)


def _try(*modules: tuple[str, str]) -> tuple[bool, str]:
    """Whether (module, extra) all import, in a version that fits, and what to do where one does not."""
    try:
        for module, extra in modules:
            require(module, extra)
            if wrong := complaint(module, installed_version(module)):
                return False, f"{module} {wrong}: run `pip install 'facedeploy[{extra}]'`"
    except BackendUnavailableError as error:
        return False, str(error)
    return True, ""
