"""ONNX Runtime on the CPU: a reference, and what stands in for TensorRT where there is no GPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from facedeploy.errors import ConversionError, FacedeployError, brief
from facedeploy.extras import require
from facedeploy.runtimes.base import Array, Arrays, Runtime, RuntimeOptions
from facedeploy.spec import NetworkSpec


def open_session(path: Path, threads: int) -> Any:
    """A session on the CPU.

    Raises:
        ConversionError: ONNX Runtime does not take the file.
    """
    ort = require("onnxruntime", "onnx")
    ort.disable_telemetry_events()
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.inter_op_num_threads = 1
    settings.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    settings.log_severity_level = 3
    # Workers that spin after a call take the cores from whatever runs next in this process.
    settings.add_session_config_entry("session.force_spinning_stop", "1")
    try:
        return ort.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions share no public base class.
        msg = f"ONNX Runtime does not load {path}: {brief(error)}"
        raise ConversionError(msg) from error


class OnnxRuntimeRuntime(Runtime):
    """Sessions are safe to call from several threads (ONNX Runtime's own promise for `Run`)."""

    backend = "onnxruntime"
    concurrent = True

    def __init__(self, path: Path, spec: NetworkSpec, options: RuntimeOptions) -> None:
        super().__init__(spec, options)
        self._session: Any = open_session(path, options.threads)
        self._version = require("onnxruntime", "onnx").__version__
        self._names = [t.name for t in spec.outputs]
        have = [t.name for t in (*self._session.get_inputs(), *self._session.get_outputs())]
        want = [t.name for t in spec.inputs] + self._names
        if have != want:
            msg = f"{path} is not {spec.name}: it has the tensors {have}, not {want}"
            raise ConversionError(msg)

    def _run(self, inputs: Mapping[str, Array]) -> Arrays:
        try:
            outputs = self._session.run(self._names, dict(inputs))
        except Exception as error:
            msg = f"ONNX Runtime stops in {self.spec.name}: {brief(error)}"
            raise FacedeployError(msg) from error
        return dict(zip(self._names, outputs, strict=True))

    def _close(self) -> None:
        del self._session

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "version": self._version, "provider": "CPUExecutionProvider"}
