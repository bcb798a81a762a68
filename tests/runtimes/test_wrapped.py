"""Runtimes around runtimes, and that a pipeline keeps what it was given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pytest

from facedeploy import pipelines
from facedeploy.core.errors import InputError
from facedeploy.core.network_spec import NetworkSpec, TensorSpec
from facedeploy.core.preprocess import Image, Pixels
from facedeploy.pipelines.base import Pipeline
from facedeploy.runtimes.base import Array, Arrays, LayerTime, Opener, Runtime, RuntimeOptions
from facedeploy.runtimes.wrapped import Feeds, Lap, Recorded, Replayed, Timed, Watched, Wrapped

SHAPE = (1, 3, 4, 5)
MORE = NetworkSpec("network", (TensorSpec("image", SHAPE),), (TensorSpec("y", (1,)), TensorSpec("inside", (1,))))
SPEC = NetworkSpec("network", MORE.inputs, MORE.outputs[:1])


class Sums(Runtime):
    """Adds up what it reads. calls: what it was asked."""

    backend = "sums"
    concurrent = True

    def __init__(self, spec: NetworkSpec = MORE) -> None:
        super().__init__(spec, RuntimeOptions(2))
        self.calls: list[str] = []
        self.closings = 0

    @property
    def parallel(self) -> int:
        return 2

    def run_many(self, feeds: Iterable[Mapping[str, Array]]) -> list[Arrays]:
        self.calls.append("many")
        return super().run_many(feeds)

    def run_pictures(self, pictures: Iterable[Pixels]) -> list[Arrays]:
        self.calls.append("pictures")
        return super().run_pictures(pictures)

    def executed(self) -> dict[str, int]:
        return {"f32": 7}

    def layers(self, feeds: object) -> tuple[LayerTime, ...]:
        return (LayerTime("sum", "Sum", "f32", 1.0),)

    def _run(self, inputs: Mapping[str, Array]) -> Arrays:
        total = inputs["image"].sum(dtype=np.float32).reshape(1)
        return {"y": total, "inside": total / 2}

    def _close(self) -> None:
        self.closings += 1


def feed(value: float) -> Arrays:
    return {"image": np.full(SHAPE, value, np.float32)}


def pixels(value: int) -> Pixels:
    return np.full((1, 4, 5, 3), value, np.uint8)


def wrapped(inner: Runtime) -> dict[str, Wrapped]:
    return {
        "watched": Watched(inner, lambda inputs, outputs: None),
        "recorded": Recorded(inner, Feeds()),
        "timed": Timed(inner, Lap()),
    }


@pytest.mark.parametrize("kind", ["watched", "recorded", "timed"])
def test_a_wrapped_runtime_says_and_answers_what_the_inner_one_does(kind: str) -> None:
    inner = Sums()
    plain = Sums()
    runtime = wrapped(inner)[kind]
    assert (runtime.spec, runtime.options, runtime.parallel) == (inner.spec, inner.options, 2)
    assert runtime.describe() == inner.describe()
    assert runtime.executed() == {"f32": 7}
    assert runtime.layers([]) == plain.layers([])
    assert runtime.run(feed(1)) == plain.run(feed(1))
    feeds = [feed(1), feed(2)]
    assert runtime.run_many(iter(feeds)) == plain.run_many(feeds)
    pictures = [pixels(1), pixels(2)]
    assert runtime.run_pictures(iter(pictures)) == plain.run_pictures(pictures)
    with pytest.raises(InputError):
        runtime.run({"image": np.zeros((1, 3, 4, 6), np.float32)})
    runtime.close()
    runtime.close()
    assert inner.closings == 1


def test_what_goes_in_and_out_is_told_and_no_more_comes_out_than_the_spec_has() -> None:
    told: list[tuple[float, set[str]]] = []
    runtime = Watched(Sums(), lambda inputs, outputs: told.append((inputs["image"].max(), set(outputs))), SPEC)
    assert set(runtime.run(feed(3))) == {"y"}
    assert [set(outputs) for outputs in runtime.run_pictures([pixels(4), pixels(5)])] == [{"y"}, {"y"}]
    assert told == [(value, {"y", "inside"}) for value in (3, 4, 5)]


def test_feeds_are_kept_as_they_are_given() -> None:
    feeds, inner = Feeds(), Sums()
    runtime = Recorded(inner, feeds)
    runtime.run_pictures([pixels(1), pixels(2)])
    runtime.run_many([feed(3)])
    assert [f.dtype if isinstance(f, np.ndarray) else f.keys() for f in feeds.inputs] == [
        np.uint8,
        np.uint8,
        {"image"},
    ]
    assert len(feeds.seconds) == 3
    assert inner.calls.count("pictures") == 2, "each of them is timed"


def test_what_was_seen_is_not_computed_again() -> None:
    opened: list[Sums] = []

    def whole() -> Sums:
        opened.append(Sums())
        return opened[-1]

    known = {"y": np.ones(1, np.float32), "other": np.zeros(1, np.float32)}
    runtime = Replayed(SPEC, RuntimeOptions(1), lambda inputs: known if inputs["image"].max() == 1 else None, whole)
    assert runtime.run(feed(1)) == {"y": known["y"]}
    assert opened == []
    assert [runtime.run(feed(2))["y"][0] for _ in range(2)] == [120, 120]
    assert set(runtime.run(feed(2))) == {"y"}
    runtime.close()
    assert [one.closed for one in opened] == [1]


class Nothing(Pipeline):
    def _detect(self, image: Image) -> list[object]:  # type: ignore[override]
        return []


def test_nobody_changes_the_runtimes_of_a_pipeline() -> None:
    given: dict[str, Runtime] = {"network": Sums()}
    pipeline = Nothing(given)
    runtimes = pipeline.runtimes
    with pytest.raises(TypeError):
        runtimes["network"] = Sums()  # type: ignore[index]
    with pytest.raises(AttributeError):
        runtimes.update({})  # type: ignore[attr-defined]
    with pytest.raises(AttributeError):
        pipeline.runtimes = {}  # type: ignore[misc]
    inner = given.pop("network")
    assert dict(pipeline.runtimes) == {"network": inner}


def test_what_was_opened_is_closed_where_another_network_cannot_be() -> None:
    entry = pipelines.configure("mtcnn", {})
    first = Sums()

    def opens(options: RuntimeOptions) -> Runtime:
        assert options.preprocess is not None, "pnet sees pictures"
        return first

    def refuses(options: RuntimeOptions) -> Runtime:
        msg = "no such network"
        raise InputError(msg)

    networks: dict[str, Opener] = {"pnet": opens, "rnet": refuses}
    with pytest.raises(InputError, match="no such network"):
        pipelines.open_pipeline(entry, networks)
    assert first.closings == 1
