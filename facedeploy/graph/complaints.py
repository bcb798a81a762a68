"""What ONNX's tools complain of, for a user: the operator and what is wrong with it, without their own source code."""

from __future__ import annotations

import re

from facedeploy.core.errors import brief
from facedeploy.core.optional_imports import onnx

# How the checker, shape inference, ONNX Runtime and the version converter name an operator, and its node.
_NAMED = (
    r"\(op_type: ?(?P<op>\w+), node name: ?(?P<node>[^)]*)\)",
    r"In Node, \(\"(?P<node>[^\"]*)\", (?P<op>\w+)",
    r"Node \((?P<node>[^)]*)\) Op \((?P<op>\w+)\)",
    r"Name: ?'(?P<node>[^']*)' OpType: ?(?P<op>\w+)",
    r"running (?P<op>\w+) node\. Name: ?'(?P<node>[^']*)'",
    r"No Op registered for (?P<op>\w+)",
    r"no version conversion adapter for (?P<op>\w+)|for op(?:erator)? (?P<other>\w+)",
)
# Places in source files, the conditions that were asserted there, kinds of errors.
_CODE = (
    r"(?:[A-Za-z]:)?[\w./\\+-]*\.(?:h|hpp|cc|cpp|c|py):?\d*:?",
    r"[\w:~<>]+\([^)]*\): ?(?=Assertion)",
    r"Assertion `.*?' failed:?|Assertion `.*?` failed:?",
    r"\[\w*Error\]|\[ONNXRuntimeError\] : \d+ : \w+ :",
    r"==> Context:.*",
    r"Inference error\(s\):|\(op_type:[^)]*\):?",
)


def complaint(error: BaseException, model: onnx.ModelProto | None = None) -> str:
    """What a tool says, as a phrase: "Resize (node up_1): the scales are negative".

    Args:
        error: What it raised.
        model: Its graph, of which a node is named if a tool says no more than its name; None for no graph.
    """
    text = brief(error)
    where = ""
    for pattern in _NAMED:
        if found := re.search(pattern, text):
            parts = found.groupdict()
            where = _operator(parts.get("op") or parts.get("other") or "", parts.get("node") or "")
            break
    if not where and model is not None:
        named = [n for n in model.graph.node if n.name and re.search(rf"(?<!\w){re.escape(n.name)}(?!\w)", text)]
        where = _operator(named[0].op_type, named[0].name) if named else ""
    for pattern in _CODE:
        text = re.sub(pattern, " ", text)
    text = " ".join(text.split()).strip(" :.,;|")
    if where and text:
        return f"{where}: {text}"
    return where or text or f"it stops with {type(error).__name__}"


def _operator(op: str, node: str) -> str:
    return f"{op} (node {node})" if node else op
