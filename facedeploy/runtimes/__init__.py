"""One class per backend that runs a compiled network: named arrays in, named arrays out.

`open_network` makes the runtime of one network of an artifact. A backend is imported only when it is asked for.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from facedeploy.artifact.manifest import NetworkEntry
from facedeploy.core.errors import ArtifactError, BackendUnavailableError, InputError
from facedeploy.core.target import Target
from facedeploy.runtimes.base import Runtime, RuntimeOptions

__all__ = ["Substitute", "base", "doctor", "open_network", "wrapped"]

Substitute = Literal["onnxruntime"]


def open_network(
    model: str,
    target: Target,
    entry: NetworkEntry,
    folder: Path,
    options: RuntimeOptions,
    substitute: Substitute | None = None,
) -> Runtime:
    """Make the runtime of one network of an artifact.

    Args:
        model: Id of the model, which a PyTorch artifact is built from.
        target: What the network was compiled for.
        entry: The network, as the manifest has it.
        folder: The artifact's folder.
        options: Threads, streams and preprocessing.
        substitute: "onnxruntime" runs the network's ONNX file instead of what the target compiled.

    Returns:
        The open runtime. Close it, or use it as a context manager.

    Raises:
        BackendUnavailableError: the backend is not installed, or this machine cannot run it.
        ArtifactError: a TensorRT engine is still to be built.
        InputError: there is no ONNX file to substitute with.
    """
    spec = entry.spec
    files = {role: folder / file.path for role, file in entry.files.items()}
    if substitute == "onnxruntime" and "onnx" not in files:
        msg = f"a {target} artifact holds no ONNX file, so ONNX Runtime cannot stand in for it"
        raise InputError(msg)
    backend = "onnx" if substitute else target.backend
    if backend == "torch":
        from facedeploy.models import checkpoint, registry
        from facedeploy.runtimes.torch import TorchRuntime

        known = registry.get(model).of_files(files)
        modules = known.build()
        for part, file in files.items():
            checkpoint.load(modules[part], checkpoint.read_state_dict(file), str(file))
        return TorchRuntime(known.networks(modules)[spec.name], spec, options)
    if backend == "onnx":
        from facedeploy.runtimes.onnxruntime import OnnxRuntimeRuntime

        return OnnxRuntimeRuntime(files["onnx"], spec, options)
    if backend == "openvino":
        from facedeploy.runtimes.openvino import OpenVinoRuntime

        # The plugin has one arithmetic for a whole network, so what keeps a part in float32 keeps all.
        precision = "fp32" if entry.float32 else target.precision
        return OpenVinoRuntime(files["xml"], precision, spec, options)
    if backend == "ncnn":
        from facedeploy.runtimes.ncnn import NcnnRuntime

        return NcnnRuntime(files["param"], files["bin"], target.precision, spec, options)
    if "engine" not in files:
        msg = (
            f"the TensorRT engine of {spec.name} is still to be built: run `facedeploy build` on the device, "
            "or run its ONNX file here with `--runtime onnxruntime`"
        )
        raise ArtifactError(msg)
    from facedeploy.runtimes.tensorrt import TensorRtRuntime

    try:
        return TensorRtRuntime(files["engine"], spec, options)
    except BackendUnavailableError as error:
        msg = f"{error}; to run its ONNX file here instead, `--runtime onnxruntime`"
        raise BackendUnavailableError(msg) from error
