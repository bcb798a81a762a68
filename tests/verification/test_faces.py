"""Are these the same faces? What rounding does passes, what a fault does is named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from facedeploy.core.face import Face
from facedeploy.core.target import Precision
from facedeploy.verification.faces import FACE_LIMITS, judge

PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "bf16", "int8")
SIDE = 50.0
# What right compiles do: how far a corner is off, in percent of the box.
NOISE: dict[Precision, float] = {"fp32": 0.01, "fp16": 0.05, "bf16": 0.8, "int8": 2.0}


def pictures(count: int, faces: int = 5, score: float = 0.9) -> list[list[Face]]:
    rng = np.random.default_rng(count)
    return [
        [_face(rng.uniform(0, 20) + 100 * i, rng.uniform(0, 20), score) for i in range(faces)] for _ in range(count)
    ]


FIVE = ((0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.4, 0.8), (0.6, 0.8))


def _face(x: float, y: float, score: float) -> Face:
    return Face(
        (x, y, x + SIDE, y + SIDE),
        score,
        tuple((x + SIDE * u, y + SIDE * v) for u, v in FIVE),
        yaw=10.0,
        pitch=20.0,
        roll=30.0,
        embedding=tuple(np.random.default_rng(int(x)).normal(size=16).tolist()),
        classes={"mask": 0.2},
    )


def each(found: list[list[Face]], change: Callable[[Face], Face]) -> list[list[Face]]:
    return [[change(face) for face in faces] for faces in found]


def moved(face: Face, by: np.ndarray | float) -> Face:
    box = tuple((np.array(face.box) + by).tolist())
    return replace(face, box=box)


def rounded(found: list[list[Face]], precision: Precision) -> list[list[Face]]:
    rng = np.random.default_rng(1)
    return each(found, lambda f: moved(f, rng.normal(0, NOISE[precision] / 100 * SIDE, 4)))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_what_rounding_does_is_right(precision: Precision) -> None:
    reference = pictures(40)
    assert judge(reference, reference, precision) == ()
    assert judge(reference, rounded(reference, precision), precision) == ()
    assert judge(pictures(1, 1), rounded(pictures(1, 1), precision), precision) == ()
    assert judge([[], []], [[], []], precision) == ()


FAULTS: dict[str, tuple[Callable[[Face], Face], str]] = {
    "three pixels": (lambda f: moved(f, 0.06 * SIDE), "all boxes are off by"),
    "to the right": (lambda f: moved(f, np.array([0.03, 0, 0.03, 0]) * SIDE), "all boxes are off by"),
    "larger": (lambda f: moved(f, np.array([-0.03, -0.03, 0.03, 0.03]) * SIDE), "all boxes are off by"),
    "landmarks": (
        lambda f: replace(f, landmarks=tuple((x + 0.06 * SIDE, y) for x, y in f.landmarks or ())),
        "landmarks are off by",
    ),
    "score": (lambda f: replace(f, score=f.score - 0.1), "scores are off by 0.1"),
    "angle": (lambda f: replace(f, yaw=(f.yaw or 0) + 5), "angles are off by 5 degrees"),
    "sign": (lambda f: replace(f, roll=-(f.roll or 0)), "angles are off by 60 degrees"),
    "embedding": (lambda f: replace(f, embedding=(f.embedding or ())[::-1]), "cosine of embeddings"),
    "classes": (lambda f: replace(f, classes={"mask": 0.4}), "probabilities of classes are off by 0.2"),
    "no number": (lambda f: replace(f, yaw=float("nan")), "angles are off by inf degrees"),
}


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("fault", FAULTS)
def test_what_a_fault_does_is_named(fault: str, precision: Precision) -> None:
    change, words = FAULTS[fault]
    reference = pictures(40)
    problems = judge(reference, each(rounded(reference, precision), change), precision)
    assert any(words in problem for problem in problems), problems


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_face_that_suppression_chose_otherwise_is_no_fault(precision: Precision) -> None:
    """Of two candidates with nearly the same score another one is left, a sixth of the face away."""
    reference = pictures(40)
    found = rounded(reference, precision)
    found[0][0] = moved(found[0][0], 0.15 * SIDE)
    assert judge(reference, found, precision) == ()
    assert judge(reference[:1], found[:1], precision) == ()
    found[0][1] = moved(found[0][1], 0.1 * SIDE)
    alone = judge(reference[:1], found[:1], precision)
    assert (alone == ()) == (precision == "int8")  # A thirtieth in the mean of four.


@pytest.mark.parametrize("precision", PRECISIONS)
def test_only_a_face_that_is_surely_above_the_threshold_can_be_lost(precision: Precision) -> None:
    margin = FACE_LIMITS[precision].margin
    for score, counts in ((0.5 + 0.9 * margin, False), (0.5 + 1.1 * margin, True)):
        reference = pictures(1, score=score)
        for want, have, said in ((reference, [[]], "5 missing and 0"), ([[]], reference, "0 missing and 5")):
            problems = judge(want, have, precision, threshold=0.5)
            assert bool(problems) == counts
            assert all(said in problem for problem in problems)


@pytest.mark.parametrize(("lost", "right"), [(6, True), (7, False)])
def test_int8_may_lose_a_few_of_many(lost: int, right: bool) -> None:
    reference = pictures(40)
    found = [faces[1:] if i < lost else faces for i, faces in enumerate(reference)]
    assert (judge(reference, found, "int8") == ()) == right
    assert judge(reference, found, "fp16") == (f"of 200 faces, {lost} missing and 0 extra",)
    assert judge(reference[:1], [reference[0][1:]], "int8") == ("of 5 faces, 1 missing and 0 extra",)


@pytest.mark.parametrize("field", ["yaw", "landmarks", "embedding"])
def test_one_face_of_many_without_numbers_is_one_too_many(field: str) -> None:
    reference = pictures(40)
    found = [list(faces) for faces in reference]
    nothing: dict[str, Any] = {"yaw": np.nan, "landmarks": ((np.nan, 0.0),) * 5, "embedding": (np.nan,) * 16}
    found[3][2] = replace(found[3][2], **{field: nothing[field]})
    (problem,) = judge(reference, found, "int8")
    assert "inf" in problem


def test_boxes_without_area_are_compared_by_their_number() -> None:
    """No box overlaps one of them, and only a fault makes a box such a one."""

    def turned(face: Face) -> Face:
        x1, y1, x2, y2 = face.box
        return replace(face, box=(x2, y1, x1, y2))

    reference = pictures(4)
    assert judge(each(reference, turned), each(reference, turned), "fp32") == ()
    assert judge(reference, each(reference, turned), "fp32") == ("of 20 faces, 20 missing and 20 extra",)
    assert judge(each(reference, turned), reference, "fp32") == ("of 20 faces, 20 missing and 20 extra",)
