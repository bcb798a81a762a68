"""How two sets of faces compare."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facedeploy.core import boxes
from facedeploy.core.face import Face
from facedeploy.metrics.face_matching import FaceDifference, compare_faces, match

NOTHING = FaceDifference(pictures=0, matched=0, missing=0, extra=0, box=0.0, landmarks=0.0, score=0.0, angle=0.0)


def face(x: float, y: float, side: float = 100.0, score: float = 0.9, **angles: Any) -> Face:
    points = tuple(
        (x + side * u, y + side * v) for u, v in ((0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.4, 0.8), (0.6, 0.8))
    )
    return Face((x, y, x + side, y + side), score, points, **angles)


def iou(a: Face, b: Face) -> float:
    return float(boxes.iou(np.array(a.box, float), np.array(b.box, float)))


def faces(seed: int, count: int) -> list[Face]:
    rng = np.random.default_rng(seed)
    return [face(*rng.uniform((0, 0, 50), (300, 300, 150)).tolist()) for _ in range(count)]


def moved(original: Face, dx: float) -> Face:
    x1, y1, x2, y2 = original.box
    points = tuple((x + dx, y) for x, y in original.landmarks or ())
    return replace(original, box=(x1 + dx, y1, x2 + dx, y2), landmarks=points)


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((0, 0, 10, 10), 1.0),
        ((5, 0, 15, 10), 1 / 3),
        ((5, 5, 15, 15), 25 / 175),
        ((2, 2, 4, 4), 0.04),
        ((10, 0, 20, 10), 0.0),
        ((0, 10, 10, 20), 0.0),
        ((20, 20, 30, 30), 0.0),
        ((3, 3, 3, 8), 0.0),
    ],
)
def test_iou(box: tuple[float, float, float, float], expected: float) -> None:
    a, b = Face((0, 0, 10, 10), 1.0), Face(box, 1.0)
    assert iou(a, b) == pytest.approx(expected)
    assert iou(b, a) == pytest.approx(expected)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.floats(0.1, 10), st.floats(-1000, 1000))
def test_iou_does_not_change_with_scale_and_place(seed: int, scale: float, shift: float) -> None:
    a, b = faces(seed, 2)
    c, d = (Face(tuple(v * scale + shift for v in f.box), 1.0) for f in (a, b))  # type: ignore[arg-type]  # four values
    assert 0 <= iou(a, b) <= 1
    assert iou(c, d) == pytest.approx(iou(a, b), abs=1e-9)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.integers(0, 8), st.integers(0, 8))
def test_order_of_the_faces_does_not_matter(seed: int, count: int, other: int) -> None:
    rng = np.random.default_rng(seed)
    a = faces(seed, count)
    b = [moved(f, float(rng.uniform(-30, 30))) for f in a] + faces(seed + 1, other)
    shuffled_a = [a[i] for i in rng.permutation(len(a))]
    shuffled_b = [b[i] for i in rng.permutation(len(b))]
    assert set(match(a, b)) == set(match(shuffled_a, shuffled_b))
    assert compare_faces([a], [b]) == compare_faces([shuffled_a], [shuffled_b])


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000))
def test_pairs_are_one_to_one_and_the_best_left(seed: int) -> None:
    crowded = [moved(f, d) for f in faces(seed, 3) for d in (0.0, 7.0, 19.0)]
    a, b = crowded[:6], [moved(f, 3.0) for f in crowded[2:]]
    pairs = match(a, b)
    assert len({id(p) for p, _ in pairs}) == len({id(q) for _, q in pairs}) == len(pairs)
    assert all(iou(p, q) >= 0.5 for p, q in pairs)
    # Nothing is left that would rather have been paired: a better pair is always blocked by one better still.
    for p in a:
        for q in b:
            best = max((iou(r, s) for r, s in pairs if r is p or s is q), default=0.0)
            assert best >= iou(p, q) or iou(p, q) < 0.5


def test_two_faces_do_not_share_a_partner() -> None:
    reference = [face(0, 0), face(10, 0)]
    difference = compare_faces([reference], [[face(8, 0)]])
    assert match(reference, [face(8, 0)]) == [(reference[1], face(8, 0))]
    assert (difference.matched, difference.missing, difference.extra) == (1, 1, 0)
    assert difference.box == pytest.approx(2.0)


def test_missing_and_extra_are_counted_over_pictures() -> None:
    reference = [[face(0, 0), face(200, 0)], [face(0, 0)], []]
    found = [[face(1, 0)], [face(500, 500), face(0, 0), face(800, 0)], []]
    difference = compare_faces(reference, found)
    assert (difference.pictures, difference.matched, difference.missing, difference.extra) == (3, 2, 1, 2)
    assert not difference.same_faces
    assert compare_faces(reference, reference).same_faces


def test_faces_of_different_pictures_are_not_paired() -> None:
    difference = compare_faces([[face(0, 0)], []], [[], [face(0, 0)]])
    assert (difference.matched, difference.missing, difference.extra) == (0, 1, 1)


@pytest.mark.parametrize(("shift", "matched"), [(33.0, 1), (34.0, 0)])
def test_partner_needs_half_the_overlap(shift: float, matched: int) -> None:
    assert compare_faces([[face(0, 0)]], [[face(shift, 0)]]).matched == matched


def test_largest_differences() -> None:
    a, b = face(0, 0), face(300, 0)
    points = ((a.landmarks or ())[0][0], (a.landmarks or ())[0][1] - 3.5)
    changed = replace(a, box=(0, -1.5, 100, 102.25), score=0.75, landmarks=(points, *(a.landmarks or ())[1:]))
    difference = compare_faces([[a, b]], [[changed, moved(b, 0.5)]])
    assert difference.score == pytest.approx(0.15)
    assert replace(difference, score=0.0) == replace(
        NOTHING, pictures=1, matched=2, box=2.25, landmarks=3.5, points=0.7
    )


def test_no_faces_and_no_pictures() -> None:
    assert compare_faces([], []) == NOTHING
    assert compare_faces([[]], [[]]) == replace(NOTHING, pictures=1)


def test_pictures_must_correspond() -> None:
    with pytest.raises(ValueError, match="shorter"):
        compare_faces([[], []], [[]])


@pytest.mark.parametrize("angle", ["yaw", "pitch", "roll"])
@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (359.0, 1.0, 2.0),
        (1.0, 359.0, 2.0),
        (-179.0, 179.0, 2.0),
        (180.0, -180.0, 0.0),
        (10.0, -25.0, 35.0),
        (0, 180, 180),
    ],
)
def test_angles_wrap_around(angle: str, a: float, b: float, expected: float) -> None:
    difference = compare_faces([[face(0, 0, **{angle: a})]], [[face(0, 0, **{angle: b})]])
    assert difference.angle == pytest.approx(expected)


def test_faces_without_landmarks_or_pose() -> None:
    difference = compare_faces([[Face((0, 0, 9, 9), 0.5, yaw=3.0)]], [[Face((0, 0, 9, 9), 0.5, roll=3.0)]])
    assert difference == replace(NOTHING, pictures=1, matched=1)


def test_plain_form_leaves_out_what_is_not_known() -> None:
    assert Face((0.123456, 1, 2, 3), 0.12345678).to_dict() == {"box": [0.1235, 1, 2, 3], "score": 0.123457}
    full = Face((0, 1, 2, 3), 0.5, ((1.00004, 2.0),), yaw=0.0, pitch=-1.0, roll=2.0).to_dict()
    assert full == {
        "box": [0, 1, 2, 3],
        "score": 0.5,
        "landmarks": [[1.0, 2.0]],
        "yaw": 0.0,
        "pitch": -1.0,
        "roll": 2.0,
    }
