"""The one interface of every backend: named arrays in, named arrays out."""

from __future__ import annotations

import abc
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from facedeploy.core.errors import FacedeployError, InputError
from facedeploy.core.network_spec import NetworkSpec
from facedeploy.core.preprocess import Pixels, Preprocess

if TYPE_CHECKING:
    from typing_extensions import Self

Array = NDArray[Any]
Arrays = dict[str, Array]

_KINDS_KEPT = 256  # Kinds of input that a runtime remembers to be right.


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class RuntimeOptions:
    """How a runtime runs.

    threads: CPU threads; the default is every core of this process. streams: how many inputs `run_many` may compute
    at once, sharing the threads; a backend that cannot do that computes one after the other. preprocess: what
    `run_pictures` does to pixels; a runtime that is given one gets ready for pictures, else for tensors.
    """

    threads: int = 0
    streams: int = 1
    preprocess: Preprocess | None = None

    def __post_init__(self) -> None:
        if self.threads < 0 or self.streams < 1:
            msg = f"threads must not be negative and streams be positive, not {self.threads} and {self.streams}"
            raise InputError(msg)
        if self.threads == 0:
            object.__setattr__(self, "threads", available_cores())


@dataclass(frozen=True)
class LayerTime:
    """A layer as the backend ran it. kind and precision: as the backend calls them. milliseconds: of one input."""

    name: str
    kind: str
    precision: str
    milliseconds: float


class Runtime(abc.ABC):
    """Runs one compiled network.

    The public methods check; `_run` works. A runtime is a context manager, and using it after `close` is an
    error. `concurrent` says whether several threads may call `run` of one object at once; where it is False the
    caller holds a lock or makes one object per thread. Returned arrays belong to the caller.
    """

    backend: ClassVar[str]
    concurrent: ClassVar[bool]
    # Whether the axes' maxima were compiled in (TensorRT's profiles) or are only a hint.
    bounded: ClassVar[bool] = False

    def __init__(self, spec: NetworkSpec, options: RuntimeOptions) -> None:
        self.spec = spec
        self.options = options
        self._closed = False
        self._right: set[tuple[object, ...]] = set()

    def run(self, inputs: Mapping[str, Array]) -> Arrays:
        """Run once. `inputs` maps every input name to a C-contiguous array of the spec's dtype and shape.

        Raises:
            InputError: an input has another name, dtype or shape than the network takes.
        """
        self._check(inputs)
        return self._run(inputs)

    def run_many(self, feeds: Iterable[Mapping[str, Array]]) -> list[Arrays]:
        """Run over several inputs, in order. `feeds` is read lazily.

        A runtime that can compute one input while the next is being prepared does so here.
        """
        return [self.run(feed) for feed in feeds]

    def run_pictures(self, pictures: Iterable[Pixels]) -> list[Arrays]:
        """Run a network with one input, the picture, over several stacks of pictures, in order.

        pictures: arrays (N, H, W, 3) uint8 BGR of the network's size, read lazily. They are normalised as
        `options.preprocess` says; a backend that can do that in its own graph does so.

        Raises:
            InputError: the network takes another size or has other inputs.
        """
        return self.run_many(map(self._normalised, pictures))

    def _normalised(self, pictures: Pixels) -> Arrays:
        self._check_picture(pictures)
        return {self.spec.inputs[0].name: self._preprocess.tensor(pictures)}

    @property
    def _preprocess(self) -> Preprocess:
        return self.options.preprocess or Preprocess()

    def _check_picture(self, pictures: Pixels) -> None:
        """Check one input of `run_pictures`.

        Raises:
            InputError: it is not an array (N, H, W, 3) uint8 that the network takes.
        """
        if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[3] != 3:
            msg = f"{self.spec.name} takes pictures (N, H, W, 3) uint8, not {pictures.shape} {pictures.dtype}"
            raise InputError(msg)
        count, height, width, channels = pictures.shape
        names = [t.name for t in self.spec.inputs]
        self.spec.check_shapes(dict.fromkeys(names, (count, channels, height, width)), bounded=self.bounded)

    def describe(self) -> dict[str, Any]:
        """Backend, version, threads, and the precision where that is the runtime's choice and not the graph's."""
        return {"backend": self.backend, "threads": self.options.threads}

    def executed(self) -> dict[str, int]:
        """Precision, as the backend calls it -> number of layers that run in it; empty where it does not say."""
        return {}

    def layers(self, feeds: Sequence[Any]) -> tuple[LayerTime, ...]:
        """What each layer takes over some inputs, measured by the backend in a copy of the network.

        feeds: inputs as of `run_pictures` where the options have a `preprocess`, else as of `run_many`. Empty where the
        backend cannot say.
        """
        return ()

    def close(self) -> None:
        """Release what the runtime holds. Closing twice is fine."""
        if not self._closed:
            self._closed = True
            self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def parallel(self) -> int:
        """How many inputs `run_many` and `run_pictures` really compute at once."""
        return 1

    @abc.abstractmethod
    def _run(self, inputs: Mapping[str, Array]) -> Arrays: ...

    @abc.abstractmethod
    def _close(self) -> None: ...

    def _check_open(self) -> None:
        if self._closed:
            msg = f"the runtime of {self.spec.name} is closed"
            raise FacedeployError(msg)

    def _check(self, inputs: Mapping[str, Array]) -> None:
        self._check_open()
        # The same kind of input, call after call, is looked at once: between two runs of a network the caches are
        # cold, and the whole check then costs 50 microseconds.
        kind = tuple([(name, a.shape, a.dtype, a.flags.c_contiguous) for name, a in inputs.items()])
        if kind in self._right:
            return
        self.spec.check_shapes({k: v.shape for k, v in inputs.items()}, bounded=self.bounded)
        for tensor in self.spec.inputs:
            array = inputs[tensor.name]
            if array.dtype != np.dtype(tensor.dtype) or not array.flags.c_contiguous:
                msg = (
                    f"{self.spec.name} takes {tensor.name} as a C-contiguous {tensor.dtype} array, "
                    f"not {array.dtype} with strides {array.strides}"
                )
                raise InputError(msg)
        if len(self._right) >= _KINDS_KEPT:
            self._right.clear()
        self._right.add(kind)


# Opens a network, to run as the options say.
Opener = Callable[[RuntimeOptions], Runtime]
