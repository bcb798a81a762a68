"""Box voting against the loop of the published script."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from facedeploy.pipelines.voting import vote
from tests.pipelines.test_nms import Boxes, crowd, overlap

Voted = list[tuple[list[float], float]]


def naive(
    boxes: Boxes,
    scores: NDArray[Any],
    threshold: float,
    *,
    pixel: float = 1.0,
    alone: bool = False,
    strict: bool = False,
) -> Voted:
    """Take the best box and all that overlap it, average them by their scores, go on with the rest.

    A box alone is dropped. Of equal scores the first box comes first. alone and strict: two ways to get it wrong.
    """
    rest = sorted(range(len(boxes)), key=lambda i: -float(scores[i]))
    sides = boxes.tolist()
    voted: Voted = []
    while rest:
        shares = [overlap(sides[rest[0]], sides[i], "union", pixel) for i in rest]
        group = [
            i for i, share in zip(rest, shares, strict=True) if (share > threshold if strict else share >= threshold)
        ]
        group = group or rest[:1]
        taken = set(group)
        rest = [i for i in rest if i not in taken]
        if len(group) > 1 or alone:
            weights = [float(scores[i]) for i in group]
            mean = [sum(w * sides[i][k] for w, i in zip(weights, group, strict=True)) / sum(weights) for k in range(4)]
            voted.append((mean, max(weights)))
    return voted


def assert_voted(boxes: Boxes, scores: NDArray[Any], threshold: float) -> None:
    merged, best = vote(boxes, scores, threshold)
    want = naive(boxes, scores, threshold)
    assert merged.shape == (len(want), 4)
    assert best.tolist() == [score for _, score in want]
    np.testing.assert_allclose(merged, np.array([box for box, _ in want]).reshape(-1, 4), rtol=1e-9, atol=1e-9)


@st.composite
def looks(draw: st.DrawFn) -> tuple[Boxes, NDArray[Any]]:
    """Few places and few scores, so that ties, equal boxes and boxes that just touch are common."""
    side = st.sampled_from([0, 1, 2, 5, 9, 12])
    corner = st.integers(-4, 16)
    rows = draw(st.lists(st.tuples(corner, corner, side, side), max_size=20))
    boxes = np.array([(x, y, x + w, y + h) for x, y, w, h in rows], np.float64).reshape(-1, 4)
    scores = draw(st.lists(st.sampled_from([0.02, 0.5, 0.5000001, 0.9]), min_size=len(rows), max_size=len(rows)))
    return boxes, np.array(scores, draw(st.sampled_from(["f4", "f8"])))


def pair(a: tuple[float, ...], b: tuple[float, ...]) -> tuple[Boxes, NDArray[Any]]:
    return np.array([a, b], np.float64), np.array([0.9, 0.8])


@settings(deadline=None, max_examples=300)
@given(looks(), st.sampled_from([0.25, 0.3, 0.5, 1.0]))
@example(pair((0, 0, 9, 9), (0, 0, 9, 4)), 0.5)  # Exactly the threshold.
@example(pair((0, 0, 9, 9), (0, 0, 9, 3)), 0.5)
@example(pair((0, 0, 9, 9), (0, 0, 9, 9)), 1.0)
def test_votes_as_published(look: tuple[Boxes, NDArray[Any]], threshold: float) -> None:
    assert_voted(*look, threshold)


@pytest.mark.parametrize("count", [0, 1, 2, 49, 400])
@pytest.mark.parametrize("whole", [True, False], ids=["integer", "fractional"])
def test_crowds(count: int, whole: bool) -> None:
    """Also more boxes than all pairs are compared of."""
    boxes, scores, _ = crowd(count, count, whole=whole)
    assert_voted(boxes, scores, 0.3)


def test_nothing_gives_nothing() -> None:
    merged, best = vote(np.zeros((0, 4)), np.zeros(0), 0.3)
    assert (merged.shape, best.shape) == ((0, 4), (0,))


def test_face_that_only_one_look_saw_is_dropped() -> None:
    boxes = np.array([[0, 0, 9, 9], [100, 0, 109, 9], [101, 0, 110, 9]], np.float64)
    merged, best = vote(boxes, np.array([0.99, 0.6, 0.3]), 0.3)
    np.testing.assert_allclose(merged, [[100 + 1 / 3, 0, 109 + 1 / 3, 9]])
    assert best.tolist() == [0.6]


def test_box_is_taken_by_the_best_that_it_overlaps_and_takes_no_others() -> None:
    """A chain: the middle one joins the first, so the last, which only overlaps the middle one, is alone."""
    boxes = np.array([[0, 0, 9, 9], [4, 0, 13, 9], [8, 0, 17, 9]], np.float64)
    merged, _ = vote(boxes, np.array([0.9, 0.8, 0.7]), 0.3)
    assert len(merged) == 1
    assert 0 < merged[0, 0] < 4


def test_inputs_are_not_modified() -> None:
    boxes, scores, _ = crowd(4, 100)
    before = boxes.copy(), scores.copy()
    vote(boxes, scores, 0.3)
    np.testing.assert_array_equal(boxes, before[0])
    np.testing.assert_array_equal(scores, before[1])


@pytest.mark.parametrize("wrong", [{"pixel": 0.0}, {"alone": True}, {"strict": True}], ids=str)
def test_wrong_definition_disagrees(wrong: dict[str, Any]) -> None:
    """Negative control: these boxes can tell the definition from its near misses."""

    def agrees(seed: int) -> bool:
        boxes, scores, _ = crowd(seed, 60, whole=True)
        boxes = np.vstack([boxes, [[500, 0, 509, 9], [500, 0, 509, 2]]])  # An overlap of 0.3.
        scores = np.append(scores, [0.5, 0.4])
        assert_voted(boxes, scores, 0.3)
        return len(naive(boxes, scores, 0.3)) == len(naive(boxes, scores, 0.3, **wrong))

    assert not all(map(agrees, range(10)))
