"""Where OpenVINO writes its results: to arrays that the caller keeps, and again only to those that nobody has."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import numpy as np
import pytest

import facedeploy.runtimes.openvino as module
from facedeploy.pipelines.load import load
from facedeploy.runtimes.base import Arrays, Runtime
from tests.conftest import SMALL
from tests.support.exported import tiny

ov = pytest.importorskip("openvino")


@pytest.fixture(scope="module")
def detector() -> Iterator[Runtime]:
    """A network whose sizes are all known."""
    with load(tiny("openvino-fp32", SMALL), threads=1) as pipeline:
        yield pipeline.runtimes["detector"]


def feed(seed: int) -> Arrays:
    return {"image": np.random.default_rng(seed).normal(0, 60, (1, 3, *SMALL)).astype(np.float32)}


def address(result: Arrays) -> set[int]:
    return {v.ctypes.data for v in result.values()}


def test_results_stay_as_they_are(detector: Runtime) -> None:
    kept = [detector.run(feed(seed)) for seed in range(4)]
    again = [detector.run(feed(seed)) for seed in range(4)]
    for one, other in zip(kept, again, strict=True):
        assert all(np.array_equal(one[name], other[name]) for name in one)
    assert len(set.union(*map(address, kept + again))) == 8 * len(kept[0])
    assert not np.array_equal(kept[0]["boxes"], kept[1]["boxes"])


def test_a_part_of_a_result_holds_it(detector: Runtime) -> None:
    part = detector.run(feed(1))["boxes"][0, 3:5].T
    before = part.copy()
    for seed in range(2, 6):
        detector.run(feed(seed))
    assert np.array_equal(part, before)


def test_memory_that_nobody_has_is_used_again(detector: Runtime) -> None:
    detector.run(feed(1))
    gc.collect()
    assert len({frozenset(address(detector.run(feed(seed)))) for seed in range(20)}) < 5


def test_results_of_many_runs_are_apart(detector: Runtime) -> None:
    many = detector.run_many(feed(seed) for seed in range(5))
    for seed, result in enumerate(many):
        assert np.array_equal(result["scores"], detector.run(feed(seed))["scores"])


def test_without_a_look_at_who_holds_them_results_are_overwritten(
    detector: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control."""
    kept = detector.run(feed(1))
    before = {name: value.copy() for name, value in kept.items()}
    monkeypatch.setattr(module, "_NOBODY", 1 << 30)
    for seed in range(2, 8):
        detector.run(feed(seed))
    assert any(not np.array_equal(kept[name], before[name]) for name in kept)
