"""The one interface of every backend: named arrays in, named arrays out."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from facedeploy.core.errors import FacedeployError, InputError
from facedeploy.core.network_spec import NetworkSpec
from facedeploy.core.preprocess import Pixels, Preprocess
from facedeploy.core.system import usable_cores

if TYPE_CHECKING:
    from typing_extensions import Self

Array = NDArray[Any]
Arrays = dict[str, Array]

_KINDS_KEPT = 256  # Kinds of input that a runtime remembers to be right.


def available_cores() -> int:
    """Cores that this process may use."""
    return len(usable_cores())


@dataclass(frozen=True)
class RuntimeOptions:
    """How a runtime runs.

    Attributes:
        threads: CPU threads; 0 becomes the number of cores that this process may use.
        streams: How many inputs `run_many` may compute at once. They share the threads. A backend that cannot do that
            computes one after the other.
        preprocess: What `run_pictures` does to pixels. With one, a runtime gets ready for pictures, without it for
            tensors.

    Raises:
        InputError: `threads` is negative, or `streams` is not positive.
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
    """A layer as the backend ran it.

    Attributes:
        name: The layer's name in the compiled network.
        kind: What the layer does, as the backend calls it.
        precision: What it computes in, as the backend calls it.
        milliseconds: Time of one input.
    """

    name: str
    kind: str
    precision: str
    milliseconds: float


class Runtime(abc.ABC):
    """Runs one compiled network.

    The public methods check; `_run` works. A runtime is a context manager, and using it after `close` is an error.
    Returned arrays belong to the caller.

    Attributes:
        backend: Name of the backend, such as "openvino".
        concurrent: Whether several threads may call `run` of one object at once. Where it is False, the caller holds
            a lock or makes one object per thread.
        bounded: Whether the axes' maxima were compiled in (TensorRT's profiles) or are only a hint.
        spec: The network's name, inputs and outputs.
        options: Threads, streams and preprocessing, as given.
    """

    backend: ClassVar[str]
    concurrent: ClassVar[bool]
    bounded: ClassVar[bool] = False

    def __init__(self, spec: NetworkSpec, options: RuntimeOptions) -> None:
        self.spec = spec
        self.options = options
        self._closed = False
        self._right: set[tuple[object, ...]] = set()

    def run(self, inputs: Mapping[str, Array]) -> Arrays:
        """Run the network once.

        Args:
            inputs: A C-contiguous array of the spec's dtype and shape for the name of every input.

        Returns:
            An array for the name of every output.

        Raises:
            InputError: an input has another name, dtype or shape than the network takes.
        """
        self._check(inputs)
        return self._run(inputs)

    def run_many(self, feeds: Iterable[Mapping[str, Array]]) -> list[Arrays]:
        """Run the network over several inputs.

        A runtime that can compute one input while the next is being prepared does so here.

        Args:
            feeds: Inputs as `run` takes them, read lazily.

        Returns:
            The outputs of each input, in order.

        Raises:
            InputError: an input has another name, dtype or shape than the network takes.
        """
        return [self.run(feed) for feed in feeds]

    def run_pictures(self, pictures: Iterable[Pixels]) -> list[Arrays]:
        """Run a network with one input, the picture, over several stacks of pictures.

        Pictures are normalised as `options.preprocess` says. A backend that can do that in its own graph does so.

        Args:
            pictures: Arrays (N, H, W, 3) uint8, BGR, of the network's size, read lazily.

        Returns:
            The outputs of each stack, in order.

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
        """Measure what each layer takes, by the backend's own clock, in a copy of the network.

        Args:
            feeds: Inputs as `run_pictures` takes them where the options have a `preprocess`, else as `run_many` does.

        Returns:
            The layers with their times; empty where the backend cannot say.
        """
        return ()

    def close(self) -> None:
        """Release what the runtime holds. Closing twice is fine."""
        if not self._closed:
            self._closed = True
            self._close()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def __repr__(self) -> str:
        """Say the network, the backend and its threads, and whether the runtime is closed."""
        threads = f"{self.options.threads} thread{'' if self.options.threads == 1 else 's'}"
        closed = " (closed)" if self.closed else ""
        return f"<{type(self).__name__}: {self.spec.name} on {self.backend}, {threads}{closed}>"

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
            msg = f"the runtime of {self.spec.name} is closed: open the artifact again"
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
