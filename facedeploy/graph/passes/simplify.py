"""onnxsim: constants folded, BatchNormalization merged into convolutions; weights keep their names."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

from facedeploy.core.errors import ConversionError
from facedeploy.core.optional_imports import onnx, onnxsim
from facedeploy.graph.complaints import complaint
from facedeploy.graph.index import GraphIndex
from facedeploy.graph.operators import LAYERS

# What onnxsim merges into the layer before it.
_MERGED = frozenset({"BatchNormalization", "Identity", "Add", "Mul", "Pad"})


def simplify(model: onnx.ModelProto) -> onnx.ModelProto:
    """A simplified copy.

    Raises:
        ConversionError: the graph is invalid, or the simplifier says that it changed the answers.
    """
    # Outside of `try`: that one of them is not installed is no complaint about the graph.
    run, _ = onnxsim.simplify, onnx.ModelProto
    try:
        with _quiet():
            simplified: onnx.ModelProto
            simplified, equal = run(model)
    except Exception as error:  # It is C++ underneath, and raises what that throws.
        msg = f"onnxsim does not take the graph: {complaint(error, model)}"
        raise ConversionError(msg) from error
    if not equal:
        msg = "the simplified ONNX graph gives other answers than the original one"
        raise ConversionError(msg)
    restore_names(simplified, model)
    return simplified


def restore_names(simplified: onnx.ModelProto, original: onnx.ModelProto) -> None:
    """Give merged weights the names that they had before, in place: tables of ranges are kept by these names.

    A convolution merged with what follows it has the output of what follows, so the way back leads through that.
    """
    index, before = GraphIndex.of(simplified), GraphIndex.of(original)
    taken = {*index.producers, *index.readers}
    known = {*before.weights, *(name for name in before.producers if before.op_before(name) == "Constant")}
    new = {name: w for name, w in index.weights.items() if name not in known}
    for node in simplified.graph.node:
        if node.op_type not in LAYERS:
            continue
        source = before.producers.get(node.output[0])
        while source is not None and source.op_type in _MERGED and source.op_type != node.op_type:
            source = before.producers.get(source.input[0])
        if source is None or source.op_type != node.op_type:
            continue
        wishes = dict(zip(node.input[1:], source.input[1:], strict=False))
        for old in node.input[1:]:
            wish = wishes.get(old) or f"{source.input[1]}.bias"
            if old in new and wish not in taken and index.uses(old) == 1:
                new.pop(old).name = wish
                node.input[list(node.input).index(old)] = wish
                taken.add(wish)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The simplifier's C++ writes to stderr about constants that it leaves as they are."""
    sys.stderr.flush()
    saved, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)
