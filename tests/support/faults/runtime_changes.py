"""What a runtime gets wrong though its network is right: each kind opens a network, and answers otherwise."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from facedeploy.core.preprocess import Pixels, Preprocess
from facedeploy.runtimes.base import Array, Arrays, Opener, Runtime, RuntimeOptions
from facedeploy.runtimes.wrapped import Wrapped

# What answers instead: asked with the inputs (arrays, or pictures), the right answer, and how many came before.
Answer = Callable[[Any, Arrays, int], Arrays]
# Makes of what opens a network something that opens a wrong one. Each call is a machine of its own.
RuntimeChange = Callable[[], Callable[[Opener, RuntimeOptions], Runtime]]


class _Wrong(Wrapped):
    def __init__(self, inner: Runtime, answer: Answer) -> None:
        super().__init__(inner)
        self._answer, self._calls = answer, 0

    def _run(self, inputs: Mapping[str, Array]) -> Arrays:
        return self._wrong(inputs, self.inner.run(inputs))

    def run_many(self, feeds: Iterable[Mapping[str, Array]]) -> list[Arrays]:
        kept = list(feeds)
        return [self._wrong(*each) for each in zip(kept, self.inner.run_many(kept), strict=True)]

    def run_pictures(self, pictures: Iterable[Pixels]) -> list[Arrays]:
        kept = list(pictures)
        return [self._wrong(*each) for each in zip(kept, self.inner.run_pictures(kept), strict=True)]

    def _wrong(self, inputs: Any, outputs: Arrays) -> Arrays:
        self._calls += 1
        return self._answer(inputs, outputs, self._calls - 1)


def _answering(make: Callable[[], Answer]) -> RuntimeChange:
    """A wrong answer of each runtime that is opened."""
    return lambda: lambda opens, options: _Wrong(opens(options), make())


def _simple(answer: Answer) -> RuntimeChange:
    return _answering(lambda: answer)


def _scaled(outputs: Arrays, factor: float) -> Arrays:
    return {name: (values * factor).astype(values.dtype) for name, values in outputs.items()}


def _prepared(change: Callable[[Preprocess], Preprocess]) -> RuntimeChange:
    def opens(right: Opener, options: RuntimeOptions) -> Runtime:
        if options.preprocess is not None:
            options = dataclasses.replace(options, preprocess=change(options.preprocess))
        return right(options)

    return lambda: opens


def _other_colours(prepare: Preprocess) -> Preprocess:
    return dataclasses.replace(prepare, colours="rgb" if prepare.colours == "bgr" else "bgr")


def _on_pictures(edit: Callable[[Pixels], Pixels]) -> RuntimeChange:
    class Edited(Wrapped):
        def run_pictures(self, pictures: Iterable[Pixels]) -> list[Arrays]:
            return self.inner.run_pictures([np.ascontiguousarray(edit(p)) for p in pictures])

    return lambda: lambda opens, options: Edited(opens(options))


def _with_threads(wrong: Callable[[int], bool]) -> RuntimeChange:
    def opens(right: Opener, options: RuntimeOptions) -> Runtime:
        inner = right(options)
        return _Wrong(inner, lambda _, o, __: _scaled(o, 0.9)) if wrong(options.threads) else inner

    return lambda: opens


def _from_the_second_opening() -> Callable[[Opener, RuntimeOptions], Runtime]:
    openings: Counter[str] = Counter()

    def opens(right: Opener, options: RuntimeOptions) -> Runtime:
        inner = right(options)
        openings[inner.spec.name] += 1
        return inner if openings[inner.spec.name] < 2 else _Wrong(inner, lambda _, o, __: _scaled(o, 0.9))

    return opens


def _late() -> Answer:
    """The answer to the call before."""
    kept: list[Arrays] = []

    def answer(_: Any, outputs: Arrays, calls: int) -> Arrays:
        kept.append(outputs)
        before = kept[-2] if calls else outputs
        return before if _alike(before, outputs) else outputs

    return answer


def _stuck() -> Answer:
    first: dict[tuple[Any, ...], Arrays] = {}

    def answer(_: Any, outputs: Arrays, __: int) -> Arrays:
        return first.setdefault(tuple(v.shape for v in outputs.values()), outputs)

    return answer


def _leaking() -> Answer:
    kept: list[Arrays] = []

    def answer(_: Any, outputs: Arrays, calls: int) -> Arrays:
        kept.append(outputs)
        if not calls or not _alike(kept[-2], outputs):
            return outputs
        return {name: 0.9 * values + 0.1 * kept[-2][name] for name, values in outputs.items()}

    return answer


def _shared() -> Answer:
    """The arrays of the answer are those of the next one."""
    buffers: dict[str, Array] = {}

    def answer(_: Any, outputs: Arrays, __: int) -> Arrays:
        for name, values in outputs.items():
            if name in buffers and buffers[name].shape == values.shape:
                buffers[name][...] = values
            else:
                buffers[name] = values.copy()
        return dict(buffers)

    return answer


def _alike(a: Arrays, b: Arrays) -> bool:
    return all(a[name].shape == values.shape for name, values in b.items())


def _rows(edit: Callable[[Array], Array]) -> Answer:
    """Something happens to the rows of a batch."""

    def answer(inputs: Any, outputs: Arrays, _: int) -> Arrays:
        first = inputs if isinstance(inputs, np.ndarray) else next(iter(inputs.values()))
        count = len(first)
        if count < 2:
            return outputs
        return {name: edit(values.copy()) if len(values) == count else values for name, values in outputs.items()}

    return answer


def _first_only(values: Array) -> Array:
    values[1:] = values[:1]
    return values


def _beyond(limit: int) -> Callable[[Array], Array]:
    def edit(values: Array) -> Array:
        values[limit:] = 0
        return values

    return edit


RUNTIME_CHANGES: dict[str, RuntimeChange] = {
    "runtime answers the call before": _answering(_late),
    "runtime answers as the first time": _answering(_stuck),
    "runtime leaks a tenth into the next answer": _answering(_leaking),
    "runtime overwrites its answers": _answering(_shared),
    "runtime answers zeros from the third call": _simple(lambda _, o, calls: o if calls < 2 else _scaled(o, 0)),
    "runtime is off from the second opening": _from_the_second_opening,
    "runtime is off with one thread": _with_threads(lambda threads: threads == 1),
    "runtime is off with several threads": _with_threads(lambda threads: threads > 1),
    "runtime reverses a batch": _simple(_rows(lambda v: v[::-1].copy())),
    "runtime repeats the first of a batch": _simple(_rows(_first_only)),
    "runtime loses a batch beyond 1": _simple(_rows(_beyond(1))),
    "runtime loses a batch beyond 4": _simple(_rows(_beyond(4))),
}
# Of a network that sees pictures.
PIXEL_CHANGES: dict[str, RuntimeChange] = {
    "pixels with colours exchanged": _prepared(_other_colours),
    "pixels of a scale of 1/255": _prepared(lambda p: dataclasses.replace(p, scale=1 / 255)),
    "pixels with another mean": _prepared(lambda p: dataclasses.replace(p, mean=(128.0, 90.0, 60.0))),
    "pixels upside down": _on_pictures(lambda p: p[:, ::-1]),
    "pixels mirrored": _on_pictures(lambda p: p[:, :, ::-1]),
    "pixels a column further": _on_pictures(lambda p: np.roll(p, 1, axis=2)),
    "pixels four columns further": _on_pictures(lambda p: np.roll(p, 4, axis=2)),
    "pixels without their lowest bits": _on_pictures(lambda p: p & np.uint8(0xE0)),
    "pixels half as bright": _on_pictures(lambda p: p // np.uint8(2)),
}
