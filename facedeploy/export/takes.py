"""Which backend takes a network: each that is installed here is asked; of the others some facts are known."""

from __future__ import annotations

import dataclasses
import importlib
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from facedeploy.core.errors import BackendUnavailableError, ConversionError, FacedeployError
from facedeploy.core.network_spec import NetworkSpec
from facedeploy.core.optional_imports import onnx, require
from facedeploy.core.target import Backend
from facedeploy.export.compiler import Job

# Operators that a backend lacks, for where it is not installed. The tests ask pnnx and TensorRT-RTX themselves.
LACKS: dict[Backend, frozenset[str]] = {
    "ncnn": frozenset(
        {
            *("ArgMax", "ArgMin", "CumSum", "GatherND", "NonMaxSuppression", "NonZero", "OneHot", "ScatterND", "TopK"),
            *("Greater", "Less", "Equal", "Where"),
        }
    ),
    "trt": frozenset({"ConvInteger", "Det", "DynamicQuantizeLinear", "MatMulInteger", "QLinearConv", "Unique"}),
}
_SUPPRESSION = "export the network without its suppression, which the pipeline does"
_FLOAT_FILE = "give the float file that it was made from"
# What to do about operators, where something else than another backend helps.
_WAYS_OUT = {
    **dict.fromkeys(("NonMaxSuppression", "NonZero", "TopK", "GatherND", "ScatterND"), _SUPPRESSION),
    **dict.fromkeys(("ArgMax", "ArgMin", "OneHot"), "let the network give the scores that this chooses from"),
    **dict.fromkeys(("ConvInteger", "DynamicQuantizeLinear", "MatMulInteger", "QLinearConv"), _FLOAT_FILE),
}
_LONGEST = 300  # Letters of a reason.


@dataclass(frozen=True)
class BackendAnswer:
    """Whether a backend takes a network in float32.

    Attributes:
        backend: Its name.
        takes: Whether it does; None where it is not installed, and nothing is known that speaks against it.
        operators: That it does not take.
        reason: What it says; empty where it takes the network.
        advice: What to do; empty where there is nothing to do.
    """

    backend: Backend
    takes: bool | None
    operators: tuple[str, ...] = ()
    reason: str = ""
    advice: str = ""


def ask_backends(spec: NetworkSpec, onnx_path: Path) -> tuple[BackendAnswer, ...]:
    """Ask every backend for its answer to a network, as `export` would have it compiled, without running it.

    Args:
        spec: The network.
        onnx_path: Its checked float32 graph, which ONNX Runtime runs.
    """
    used = sorted({n.op_type for n in onnx.load(onnx_path, load_external_data=False).graph.node})
    answers = (BackendAnswer("onnx", True), *(_ask(backend, spec, onnx_path, used) for backend in _ASKED))
    others = [a.backend for a in answers if a.takes]
    return tuple(a if a.takes in (True, None) else _with_advice(a, others) for a in answers)


def _openvino(job: Job) -> None:
    require("openvino", "openvino")
    importlib.import_module("facedeploy.export.openvino").compile_network(job)


def _ncnn(job: Job) -> None:
    require("pnnx", "export")
    require("ncnn", "ncnn")
    importlib.import_module("facedeploy.export.ncnn.convert").compile_network(job)


def _tensorrt(job: Job) -> None:
    importlib.import_module("facedeploy.export.tensorrt").check_graph(job)


_ASKED: dict[Backend, Callable[[Job], None]] = {"openvino": _openvino, "ncnn": _ncnn, "trt": _tensorrt}


def _ask(backend: Backend, spec: NetworkSpec, onnx_path: Path, used: Sequence[str]) -> BackendAnswer:
    try:
        with tempfile.TemporaryDirectory() as folder:
            # The file itself is kept as it was: a compiler may write beside it.
            own = Path(folder) / onnx_path.name
            own.write_bytes(onnx_path.read_bytes())
            _ASKED[backend](Job(spec, own, "fp32", Path(folder)))
    except BackendUnavailableError as error:
        lacks = tuple(op for op in used if op in LACKS.get(backend, ()))
        return BackendAnswer(backend, False if lacks else None, lacks, str(error))
    except ConversionError as error:
        named = (*_operators(str(error), used), *(op for op in used if op in LACKS.get(backend, ())))
        return BackendAnswer(backend, False, tuple(dict.fromkeys(named)), _short(str(error)))
    except FacedeployError as error:
        return BackendAnswer(backend, False, (), str(error))
    return BackendAnswer(backend, True)


def _operators(message: str, used: Sequence[str]) -> tuple[str, ...]:
    """Which of the operators of a graph a converter's message names."""
    return tuple(word for word in re.findall(r"\w+", message) if word in used)


def _short(message: str) -> str:
    """A converter's words without its colours, and not all of its log."""
    plain = " ".join(re.sub(r"\x1b\[[\d;]*m", "", message).split())
    return plain if len(plain) <= _LONGEST else f"{plain[:_LONGEST]}…"


def _with_advice(answer: BackendAnswer, others: Sequence[Backend]) -> BackendAnswer:
    ways = list(dict.fromkeys(_WAYS_OUT[op] for op in answer.operators if op in _WAYS_OUT))
    ways += [f"take {' or '.join(others)}"] if others else []
    return dataclasses.replace(answer, advice="; or ".join(ways))
