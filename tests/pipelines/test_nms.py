"""Suppression against the plain greedy loop of its definition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from facedeploy.pipelines.nms import Mode, nms

Boxes = NDArray[np.float64]
Scene = tuple[Boxes, NDArray[Any], NDArray[np.int64]]

THRESHOLDS = [0.0, 0.3, 0.5, 0.7, 0.9, 1.0]
MODES: tuple[Mode, ...] = get_args(Mode)


def overlap(a: Sequence[float], b: Sequence[float], mode: Mode, pixel: float = 1.0) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0]) + pixel
    height = min(a[3], b[3]) - max(a[1], b[1]) + pixel
    inter = max(width, 0.0) * max(height, 0.0)
    area_a, area_b = ((v[2] - v[0] + pixel) * (v[3] - v[1] + pixel) for v in (a, b))
    base = area_a + area_b - inter if mode == "union" else min(area_a, area_b)
    return inter / base if base else 0.0


def greedy(
    boxes: Boxes,
    scores: NDArray[Any],
    threshold: float,
    mode: Mode,
    groups: NDArray[np.int64] | None = None,
    *,
    pixel: float = 1.0,
    digits: int = 5,
    last_first: bool = True,
) -> list[int]:
    rank = np.round(scores, digits).tolist()
    sides = boxes.tolist()
    kept: list[int] = []
    for i in sorted(range(len(sides)), key=lambda i: (rank[i], i if last_first else -i), reverse=True):
        rivals = (k for k in kept if groups is None or groups[k] == groups[i])
        if all(overlap(sides[i], sides[k], mode, pixel) <= threshold for k in rivals):
            kept.append(i)
    return kept


def crowd(seed: int, count: int, *, whole: bool = False) -> Scene:
    """Boxes in clusters with many equal scores, and three groups."""
    rng = np.random.default_rng(seed)
    centre = rng.uniform(0, 200, (max(1, count // 8), 2))[rng.integers(0, max(1, count // 8), count)]
    corner = centre + rng.normal(0, 4, (count, 2))
    boxes = np.hstack([corner, corner + rng.uniform(0, 40, (count, 2))])
    scores = np.round(rng.uniform(0.6, 1.0, count), 2).astype(np.float32)
    return np.round(boxes) if whole else boxes, scores, rng.integers(0, 3, count)


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    """Few places and few scores, so that touching, equal and nested boxes are common; some are far larger."""
    step = draw(st.sampled_from([1.0, 0.5, 0.25]))
    side = (st.integers(0, 12) | st.sampled_from([40, 100])).map(lambda v: v * step)
    corner = st.integers(-4, 16).map(lambda v: v * step)
    rows = draw(st.lists(st.tuples(corner, corner, side, side), max_size=24))
    count = len(rows)
    boxes = np.array([(x, y, x + w, y + h) for x, y, w, h in rows], np.float64).reshape(-1, 4)
    values = st.sampled_from([0.7, 0.8, 0.800001, 0.80002, 0.9999999, 1.0])
    scores = np.array(draw(st.lists(values, min_size=count, max_size=count)), draw(st.sampled_from(["f4", "f8"])))
    groups = np.array(draw(st.lists(st.sampled_from([0, 1, 5]), min_size=count, max_size=count)), np.int64)
    return boxes, scores, groups


def pair(a: Sequence[float], b: Sequence[float]) -> Scene:
    return np.array([a, b], np.float64), np.array([0.9, 0.8]), np.zeros(2, np.int64)


@settings(deadline=None, max_examples=400)
@given(scenes(), st.sampled_from(THRESHOLDS), st.sampled_from(MODES), st.booleans())
@example(pair((0, 0, 0, 0), (0, 0.5, 0, 0.5)), 0.3, "union", False)
@example(pair((0, 0, 0, 0), (0.5, 0, 0.5, 0)), 0.3, "union", False)
@example(pair((0, 0, 9, 9), (1, 0, 9, 9)), 0.9, "union", False)
@example(pair((0, 0, 9, 9), (1, 0, 9, 9)), 0.89, "union", False)
def test_keeps_what_the_definition_keeps(scene: Scene, threshold: float, mode: Mode, grouped: bool) -> None:
    boxes, scores, groups = scene
    of = groups if grouped else None
    assert nms(boxes, scores, threshold, mode, of).tolist() == greedy(boxes, scores, threshold, mode, of)


@pytest.mark.parametrize("whole", [True, False], ids=["integer", "fractional"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("threshold", THRESHOLDS)
@pytest.mark.parametrize("count", [0, 1, 2, 400])
def test_crowds(count: int, threshold: float, mode: Mode, whole: bool) -> None:
    boxes, scores, groups = crowd(count, count, whole=whole)
    for of in (None, groups):
        assert nms(boxes, scores, threshold, mode, of).tolist() == greedy(boxes, scores, threshold, mode, of)


@pytest.mark.parametrize("mode", MODES)
def test_threshold_above_one_drops_nothing(mode: Mode) -> None:
    boxes, scores, _ = crowd(1, 40)
    assert sorted(nms(boxes, scores, 1.5, mode).tolist()) == list(range(40))


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.sampled_from([0.3, 0.5, 0.7]), st.sampled_from(MODES))
def test_kept_are_sorted_and_apart_and_dropped_have_a_better_neighbour(seed: int, threshold: float, mode: Mode) -> None:
    boxes, scores, groups = crowd(seed, 60)
    kept = nms(boxes, scores, threshold, mode, groups).tolist()
    rank = [(v, i) for i, v in enumerate(np.round(scores, 5).tolist())]
    assert [rank[k] for k in kept] == sorted((rank[k] for k in kept), reverse=True)

    def suppresses(better: int, worse: int) -> bool:
        near = overlap(boxes[better].tolist(), boxes[worse].tolist(), mode) > threshold
        return near and bool(groups[better] == groups[worse]) and rank[better] > rank[worse]

    assert not any(suppresses(a, b) for a in kept for b in kept)
    dropped = set(range(60)) - set(kept)
    assert all(any(suppresses(k, d) for k in kept) for d in dropped)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.sampled_from(MODES))
def test_order_of_the_input_does_not_matter_without_ties(seed: int, mode: Mode) -> None:
    boxes, _, groups = crowd(seed, 60)
    rng = np.random.default_rng(seed)
    scores, shuffled = rng.permutation(60) / 60, rng.permutation(60)
    again = nms(boxes[shuffled], scores[shuffled], 0.5, mode, groups[shuffled])
    assert shuffled[again].tolist() == nms(boxes, scores, 0.5, mode, groups).tolist()


def test_groups_are_independent() -> None:
    boxes, scores, groups = crowd(3, 200)
    kept = set(nms(boxes, scores, 0.5, "union", groups).tolist())
    alone = [np.flatnonzero(groups == g) for g in range(3)]
    assert kept == {int(v) for part in alone for v in part[nms(boxes[part], scores[part], 0.5)]}
    assert kept != set(nms(boxes, scores, 0.5).tolist())


def test_equal_scores_prefer_the_last_box() -> None:
    boxes = np.array([[0, 0, 9, 9]] * 3, np.float64)
    assert nms(boxes, np.array([0.9, 0.900001, 0.9]), 0.5).tolist() == [2]
    assert nms(boxes, np.array([0.9, 0.90002, 0.9]), 0.5).tolist() == [1]


def test_inputs_are_not_modified() -> None:
    boxes, scores, groups = crowd(4, 100)
    before = boxes.copy(), scores.copy(), groups.copy()
    nms(boxes, scores, 0.5, "minimum", groups)
    for now, then in zip((boxes, scores, groups), before, strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize(
    "wrong", [{"pixel": 0.0}, {"digits": 3}, {"last_first": False}], ids=["without-pixel", "coarse", "first-of-equals"]
)
def test_wrong_definition_disagrees(wrong: dict[str, Any]) -> None:
    """Negative control: these scenes can tell the definition from its near misses."""

    def agrees(seed: int) -> bool:
        boxes, _, _ = crowd(seed, 80, whole=True)
        scores = np.random.default_rng(seed).choice([0.9, 0.9002, 0.9004, 0.95], 80)
        right: list[int] = nms(boxes, scores, 0.5).tolist()
        assert right == greedy(boxes, scores, 0.5, "union")
        return right == greedy(boxes, scores, 0.5, "union", **wrong)

    assert not all(map(agrees, range(10)))
