"""What the suite of faults found, as a page and as a list."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path

import numpy as np

from tests.support.faults.subject import TARGETS, Attempt, Question

_ROOT = Path(__file__).parents[3]
PAGE = _ROOT / "docs" / "reference" / "faults.md"
KEPT = _ROOT / "tests" / "data" / "faults.json"
_MARKS = {
    "harmful and refused": "R",
    "harmless and refused": "r",
    "harmless and written": ".",
    "harmful and written": "**W**",
}
_SHOWN = 80  # Letters of a message.
_INTRODUCTION = """# Wrong compiles, and what becomes of them

Each line is a fault that was put into an export on purpose: into the graph that a backend compiles, into the ranges of
int8, into the runtime, or into the pixels on their way. Would `export` have written it, and what would it have done?

| mark | the fault does harm | `export` |
|---|---|---|
| R | yes | refuses it |
| r | no | refuses it |
| . | no | writes it |
| **W** | yes | writes it |

Harm is measured on 50 photographs, of groups, portraits and close-ups, against the right artifact of the same target:
more than 1 point of AP, more than one face of a hundred that comes or goes at the threshold (int8: three), or a box or
landmark that is off by more than 3 % of the box, or an angle by more than 2 degrees (fp32: 1 %, half a degree). That is
asked of the worst face but for a fiftieth of them. As int8 moves the AP of 50 photographs by a point by itself, what
seems to do harm there and is written is asked again on 400. What a refused fault would have done is measured once, in
float. A fault without a mark changes nothing in that network. Edited manifests are another matter: each value is
refused by its digest, and named by `verify`.

The columns are ONNX Runtime, OpenVINO, ncnn, and the graph for TensorRT in ONNX Runtime. mos-tiny is what comes with
facedeploy, for 240x320; MTCNN the published cascade, for the same; YuNet is yunet_n_320_320.onnx and PFLD the network
of 106 points, both as published. MTCNN was not asked yet for ncnn in fp16 and int8, and for TensorRT.
`python -m tests.support.faults.suite --assets DIR --work DIR --keep` makes this page.
"""
_HEADER = (
    "| fault | fp32: ORT, OV, ncnn, TRT | fp16: OV, ncnn, TRT | int8: OV, ncnn, TRT | AP lost | faces | worst box, %"
    " | points, % | degrees | message |\n|---|---|---|---|---|---|---|---|---|---|\n"
)
_COLUMNS = tuple([t for t in TARGETS if t.endswith(p)] for p in ("fp32", "fp16", "int8"))


def keep(found: Mapping[Question, Attempt]) -> None:
    """Write the page, and for the tests which harm is refused: subject -> network -> fault -> targets."""
    harmful: dict[str, dict[str, dict[str, list[str]]]] = {}
    for (subject, network, fault, target), answer in sorted(found.items()):
        if answer.verdict(target) == "harmful and refused":
            harmful.setdefault(subject, {}).setdefault(network, {}).setdefault(fault, []).append(target)
    KEPT.write_text(json.dumps(harmful, indent=0, sort_keys=True) + "\n", encoding="utf-8")
    PAGE.write_text(_page(found), encoding="utf-8")


def _page(found: Mapping[Question, Attempt]) -> str:
    counts = Counter(answer.verdict(question[3]) for question, answer in found.items())
    total = sum(counts.values())
    summed = "; ".join(f"{count} {kind} ({100 * count / total:.1f} %)" for kind, count in counts.most_common())
    parts = [_INTRODUCTION, f"\nOf {total}: {summed}.\n"]
    for (subject, network), questions in groupby(found, key=lambda q: q[:2]):
        faults = dict.fromkeys(question[2] for question in questions)
        parts.append(f"\n## {subject}, {network}\n\n{_HEADER}")
        parts += [_row(fault, {t: found.get((subject, network, fault, t)) for t in TARGETS}) for fault in faults]
    return "".join(parts)


def _row(fault: str, answers: Mapping[str, Attempt | None]) -> str:
    marks = [" ".join(_mark(t, answers[t]) for t in column) for column in _COLUMNS]
    first = next(a for a in answers.values() if a is not None)
    message = next((a.refusal for a in answers.values() if a is not None and a.refusal), "")
    shown = re.sub(r"^\w+Error: | \(largest difference [^)]*\)", "", message).replace("|", "/").replace("\n", " ")
    shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN].rsplit(' ', 1)[0]} …"
    cells = [fault, *marks, *_effect(first), shown]
    return f"| {' | '.join(cells)} |\n"


def _mark(target: str, answer: Attempt | None) -> str:
    return "" if answer is None else _MARKS[answer.verdict(target)]


def _effect(answer: Attempt) -> list[str]:
    if answer.effect is None:
        return ["does not run", "", "", "", ""]
    values = [answer.effect.ap, answer.effect.faces, *answer.effect.worst]
    return ["all" if not np.isfinite(v) else f"{v:.2g}" if abs(v) >= 0.05 else "0" for v in values]
