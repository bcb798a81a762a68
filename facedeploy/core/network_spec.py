"""What goes into a network and what comes out: names, types, shapes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from facedeploy.core.errors import InputError

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Axis:
    """A dynamic axis of the inputs, with the range that it is compiled for.

    Attributes:
        name: Stands for the axis in the shapes of tensors.
        minimum: The smallest size.
        optimum: The size that a compiler with profiles (TensorRT) tunes for.
        maximum: The largest size.
    """

    name: str
    minimum: int
    optimum: int
    maximum: int


@dataclass(frozen=True)
class TensorSpec:
    """A named tensor.

    Attributes:
        name: As the compiled network calls it.
        shape: Of each dimension the size, or the name of a dynamic axis.
        dtype: As NumPy calls it.
    """

    name: str
    shape: tuple[int | str, ...]
    dtype: str = "float32"


@dataclass(frozen=True)
class NetworkSpec:
    """One network of a model.

    Attributes:
        name: As the model calls it, such as "pnet".
        inputs: The first axis of the first one is the batch.
        outputs: In the order of the network.
        axes: The dynamic axes that the shapes name.
    """

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    axes: tuple[Axis, ...] = ()

    def axis(self, name: str) -> Axis:
        return next(a for a in self.axes if a.name == name)

    @property
    def max_batch(self) -> int:
        """Largest batch of one call."""
        batch = self.inputs[0].shape[0]
        return batch if isinstance(batch, int) else self.axis(batch).maximum

    @property
    def picture_size(self) -> tuple[int, int] | None:
        """(height, width) of the picture that is the first input; None where that may have any size."""
        height, width = self.inputs[0].shape[2:]
        return (height, width) if isinstance(height, int) and isinstance(width, int) else None

    def input_shapes(self, which: str) -> dict[str, Shape]:
        """Shapes of the inputs with every dynamic axis at one end, or at its best.

        Args:
            which: "minimum", "optimum" or "maximum".

        Returns:
            The shape of each input, by name.
        """
        return {
            t.name: tuple(d if isinstance(d, int) else getattr(self.axis(d), which) for d in t.shape)
            for t in self.inputs
        }

    def check_shapes(self, shapes: Mapping[str, Shape], *, bounded: bool) -> None:
        """Check the shapes of a call's inputs.

        Args:
            shapes: The shape of each input, by name.
            bounded: Whether the axes' maxima apply too.

        Raises:
            InputError: an input is missing or unknown, or a dimension is not what the network takes.
        """
        names = [t.name for t in self.inputs]
        if set(shapes) != set(names):
            msg = f"{self.name} takes the inputs {names}, not {sorted(shapes)}"
            raise InputError(msg)
        seen: dict[str, int] = {}
        for tensor in self.inputs:
            shape = shapes[tensor.name]
            fits = len(shape) == len(tensor.shape)
            for want, have in zip(tensor.shape, shape, strict=False):
                if isinstance(want, int):
                    fits &= want == have
                else:
                    axis = self.axis(want)
                    fits &= axis.minimum <= have and seen.setdefault(want, have) == have
                    fits &= have <= axis.maximum or not bounded
            if not fits:
                msg = f"{self.name} takes {self._describe(tensor)}, not a shape of {shape}"
                raise InputError(msg)

    def _describe(self, tensor: TensorSpec) -> str:
        parts = [
            str(d) if isinstance(d, int) else f"{d} {self.axis(d).minimum}..{self.axis(d).maximum}"
            for d in tensor.shape
        ]
        return f"{tensor.name} ({', '.join(parts)})"


Size = tuple[int, int]


InputSize = Size | Literal["any"]


_LARGEST = 16384


def read_size(text: str) -> Size | None:
    """Read an input size.

    Args:
        text: HEIGHTxWIDTH, in pixels.

    Returns:
        (height, width); None where the text is not two numbers between 1 and 16384.
    """
    found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    size = (int(found[1]), int(found[2])) if found else (0, 0)
    return size if all(1 <= v <= _LARGEST for v in size) else None
