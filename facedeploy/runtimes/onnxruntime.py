"""ONNX Runtime on the CPU: a reference, and what stands in for TensorRT where there is no GPU."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from facedeploy.core.errors import BackendUnavailableError, ConversionError, FacedeployError, brief
from facedeploy.core.network_spec import NetworkSpec
from facedeploy.core.optional_imports import onnxruntime, require
from facedeploy.runtimes.base import Array, Arrays, LayerTime, Runtime, RuntimeOptions

_FEWEST_RUNS = 10  # Of layers that are timed, so that the profiler's microseconds do not show.


def open_session(path: Path | bytes, threads: int, profile: Path | None = None) -> Any:
    """Open a session on the CPU.

    ONNX Runtime has DeformConv from 1.25 on. Before, which is all that Python 3.10 can have, deformable convolutions
    run as GridSample: onnx writes them so when the file is opened.

    Args:
        path: The ONNX file, or what is in it.
        threads: CPU threads.
        profile: Beginning of the name of the file that the profiler writes; None for no profile.

    Raises:
        ConversionError: ONNX Runtime does not take the file.
        BackendUnavailableError: it has no DeformConv, and onnx, which writes another form, is not installed.
    """
    onnxruntime.disable_telemetry_events()
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.inter_op_num_threads = 1
    settings.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    settings.log_severity_level = 4  # Its errors come as exceptions, and are said once.
    # Workers that spin after a call take the cores from whatever runs next in this process.
    settings.add_session_config_entry("session.force_spinning_stop", "1")
    if profile is not None:
        settings.enable_profiling = True
        settings.profile_file_prefix = str(profile)
    try:
        return _session(path, settings)
    except Exception as error:  # ONNX Runtime's exceptions share no public base class.
        if "implementation for DeformConv" in str(error):
            return _session(_as_gridsample(path), settings)
        msg = f"ONNX Runtime does not load {_said(path)}: {brief(error)}"
        raise ConversionError(msg) from error


def _session(path: Path | bytes, settings: Any) -> Any:
    model = path if isinstance(path, bytes) else str(path)
    return onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])


def _said(path: Path | bytes) -> str:
    return "it" if isinstance(path, bytes) else str(path)


def _as_gridsample(path: Path | bytes) -> bytes:
    """A graph without DeformConv."""
    try:
        onnx = require("onnx", "onnx")
    except BackendUnavailableError as error:
        msg = (
            f"ONNX Runtime {onnxruntime.__version__} has no DeformConv, which {_said(path)} needs: "
            "run `pip install 'facedeploy[onnx]'`, or export it again with `--deform-conv gridsample`"
        )
        raise BackendUnavailableError(msg) from error
    from facedeploy.graph.passes.deform_conv import to_gridsample

    model = onnx.load_from_string(path) if isinstance(path, bytes) else onnx.load(path)
    written: bytes = to_gridsample(model).SerializeToString()
    return written


class OnnxRuntimeRuntime(Runtime):
    """Sessions are safe to call from several threads (ONNX Runtime's own promise for `Run`)."""

    backend = "onnxruntime"
    concurrent = True

    def __init__(self, path: Path | bytes, spec: NetworkSpec, options: RuntimeOptions) -> None:
        super().__init__(spec, options)
        self._path = path
        self._session: Any = open_session(path, options.threads)
        self._version = onnxruntime.__version__
        self._names = [t.name for t in spec.outputs]
        have = [t.name for t in (*self._session.get_inputs(), *self._session.get_outputs())]
        want = [t.name for t in spec.inputs] + self._names
        if have != want:
            what = "the graph" if isinstance(path, bytes) else path
            msg = f"{what} is not {spec.name}: it has the tensors {have}, not {want}"
            raise ConversionError(msg)

    @property
    def source(self) -> Path | bytes:
        """The ONNX file that is run, or what is in it."""
        return self._path

    def _run(self, inputs: Mapping[str, Array]) -> Arrays:
        try:
            outputs = self._session.run(self._names, dict(inputs))
        except Exception as error:
            msg = f"ONNX Runtime stops in {self.spec.name}: {brief(error)}"
            raise FacedeployError(msg) from error
        return dict(zip(self._names, outputs, strict=True))

    def executed(self) -> dict[str, int]:
        """Of the graph as the session rewrote it, the type of each node's first input; from a run on zeros. What only
        rounds or undoes that is not counted: its type says nothing about what is computed in.
        """
        shapes = self.spec.input_shapes("minimum")
        zeros = {t.name: np.zeros(shapes[t.name], t.dtype) for t in self.spec.inputs}
        ran = self._profiled([zeros], 1)
        return dict(Counter(v.precision for v in ran if v.kind not in ("QuantizeLinear", "DequantizeLinear")))

    def layers(self, feeds: Sequence[Any]) -> tuple[LayerTime, ...]:
        """The session's profiler, without the first time that each input is seen."""
        tensors = feeds if self.options.preprocess is None else [self._normalised(f) for f in feeds]
        return self._profiled(tensors, 1 + -(-_FEWEST_RUNS // max(len(tensors), 1)))

    def _profiled(self, feeds: Sequence[Mapping[str, Array]], repeats: int) -> tuple[LayerTime, ...]:
        """Run a profiled copy; the last `repeats` - 1 times count, or the only one."""
        self._check_open()
        with tempfile.TemporaryDirectory() as folder:
            session = open_session(self._path, self.options.threads, Path(folder) / "profile")
            for _ in range(repeats):
                for feed in feeds:
                    session.run(self._names, dict(feed))
            events = json.loads(Path(session.end_profiling()).read_bytes())
        runs: dict[str, list[Any]] = {}
        for event in events:
            if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
                runs.setdefault(event["name"].removesuffix("_kernel_time"), []).append(event)
        counted = len(feeds) * max(repeats - 1, 1)
        return tuple(_layer(name, found[-counted:]) for name, found in runs.items())

    def _close(self) -> None:
        del self._session

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "version": self._version, "provider": "CPUExecutionProvider"}


def _layer(name: str, events: Sequence[Any]) -> LayerTime:
    given = events[0]["args"]
    kinds = [kind for value in (*given.get("input_type_shape", ()), *given["output_type_shape"]) for kind in value]
    microseconds = sum(e["dur"] for e in events) / len(events)
    return LayerTime(name, given["op_name"], kinds[0] if kinds else "", microseconds / 1e3)
