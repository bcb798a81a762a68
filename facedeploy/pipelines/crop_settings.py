"""What a network that looks at one face sees of it, and what its outputs mean, as face.toml and manifests have it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from facedeploy.core.errors import InputError
from facedeploy.core.network_spec import NetworkSpec

Angle = Literal["yaw", "pitch", "roll"]
_ANGLES: tuple[Angle, ...] = ("yaw", "pitch", "roll")
# How many numbers a rotation is, in the forms that are not an angle each.
_ROTATIONS = {"6d": 6, "matrix": 9}


@dataclass(frozen=True)
class Crop:
    """Which part of the picture a network sees of a face.

    Attributes:
        grow: How many times as large as the box the crop is: one number, or one across and one down.
        square: Whether the crop has the proportions of the network's input, so that nothing is stretched: it is then as
            large as the longer side asks for. Without that it has those of the box.
        shift: By how many widths and heights of the box its middle moves, right and down.
        align: Name of the template onto which the five points are moved, instead of a crop around the box.
        edge: What is outside of the picture: "black", "mean" (zero in the tensor), "replicate" (as at the edge), or
            "cut", where the crop ends at the edge.
    """

    grow: float | tuple[float, float] = 1.0
    square: bool = True
    shift: tuple[float, float] = (0.0, 0.0)
    align: Literal["arcface"] | None = None
    edge: Literal["black", "mean", "replicate", "cut"] = "black"

    def __post_init__(self) -> None:
        if not all(0.1 <= v <= 10 for v in self.grows):
            msg = f"crop.grow must lie between 0.1 and 10, not {self.grow}"
            raise InputError(msg)
        if not all(-2 <= v <= 2 for v in self.shift):
            msg = f"crop.shift must lie between -2 and 2, not {self.shift}"
            raise InputError(msg)
        if self.align is not None and (self.edge == "cut" or (*self.grows, *self.shift) != (1, 1, 0, 0)):
            msg = 'crop.align says where the crop is: leave out grow, shift and edge = "cut"'
            raise InputError(msg)

    @property
    def grows(self) -> tuple[float, float]:
        """Across and down."""
        return self.grow if isinstance(self.grow, tuple) else (self.grow, self.grow)


@dataclass(frozen=True)
class Points:
    """An output that says where points of the face are.

    Attributes:
        output: Its name; None where only one output can be meant.
        points_in: Unit of the numbers: "unit" is 0..1 of the crop, "signed" -1..1 of it, "pixels" those of the
            network's input. "heatmaps": the output is (1, K, h, w), and the point of each map is its largest cell,
            moved by a quarter of a cell to the larger neighbour.
        count: How many points; None for as many as the output holds.
        first: Where they begin in the output.
        values: Numbers of each point, of which the first two count.
        order: "xy": x and y of a point, then the next point. "yx": y first. "planes": all x, then all y.
    """

    output: str | None = None
    points_in: Literal["unit", "signed", "pixels", "heatmaps"] = "unit"
    count: int | None = None
    first: int = 0
    values: int = 2
    order: Literal["xy", "yx", "planes"] = "xy"

    def __post_init__(self) -> None:
        if self.first < 0 or self.values < 2 or (self.count is not None and self.count < 1):
            msg = "meaning.points takes no negative first, at least 2 values and at least one point"
            raise InputError(msg)

    @property
    def end(self) -> int | None:
        """Where they end in the output; None where that follows from its size."""
        return None if self.count is None else self.first + self.count * self.values

    def resolved(self, spec: NetworkSpec) -> Points:
        if self.points_in == "heatmaps":
            output = _choose("points.output", self.output, [n for n, s in _shapes(spec) if len(s) == 4], spec)
            shape = dict(_shapes(spec))[output]
            if len(shape) != 4 or self.count not in (None, shape[1]):
                msg = f"meaning.points: {output!r} must be (1, {self.count or 'K'}, h, w) heat maps, and is {shape}"
                raise InputError(msg)
            return dataclasses.replace(self, output=output, count=int(shape[1]))
        fits = [n for n, size in _sizes(spec).items() if size == self.end]
        output = _choose("points.output", self.output, fits, spec)
        size = _sizes(spec)[output]
        count = (size - self.first) // self.values if self.count is None else self.count
        whole = self.count is not None or (size - self.first) % self.values == 0
        if count < 1 or not whole or self.first + count * self.values > size:
            msg = (
                f"meaning.points: {output!r} has {size} numbers a face, which are not {self.count or 'some'} points of "
                f"{self.values} from {self.first} on"
            )
            raise InputError(msg)
        return dataclasses.replace(self, output=output, count=count)


@dataclass(frozen=True)
class Pose:
    """Outputs that say how the head is turned.

    Attributes:
        form: "degrees" or "radians": three angles. "bins": for each angle the logits of bins of `bin_size` degrees
            around 0, of which the mean under softmax is the angle. "matrix": a rotation (3, 3), rows first. "6d": its
            first two columns, not yet orthonormal. Both turn about x (pitch), then y (yaw), then z (roll), as 300W-LP.
        outputs: Name of the output, or of three, one an angle in `order`; empty where only these can be meant.
        order: Of the three angles.
        negate: Angles whose sign is the other way round than in `Face`.
        first: Where the numbers begin in a single output.
        bin_size: Degrees.
    """

    form: Literal["degrees", "radians", "bins", "6d", "matrix"] = "degrees"
    outputs: tuple[str, ...] = ()
    order: tuple[Angle, Angle, Angle] = ("yaw", "pitch", "roll")
    negate: tuple[Angle, ...] = ()
    first: int = 0
    bin_size: float = 3.0

    def __post_init__(self) -> None:
        if sorted(self.order) != sorted(_ANGLES):
            msg = f"meaning.pose.order must name yaw, pitch and roll once each, not {', '.join(self.order)}"
            raise InputError(msg)
        if self.first < 0 or not 0 < self.bin_size <= 90:
            msg = "meaning.pose takes no negative first, and bins between 0 and 90 degrees"
            raise InputError(msg)

    def resolved(self, spec: NetworkSpec) -> Pose:
        sizes = _sizes(spec)
        need = _ROTATIONS.get(self.form, 3)
        names = self.outputs
        if not names:
            alone = [n for n, size in sizes.items() if size == self.first + need]
            threes = [n for n, size in sizes.items() if (size > 3 if self.form == "bins" else size == 1)]
            split = self.form not in _ROTATIONS and len(threes) == 3 == len(sizes)
            names = tuple(threes) if split else (_choose("pose.outputs", None, alone, spec),)
        for name in names:
            _choose("pose.outputs", name, [], spec)
        if len(names) != 1 and (len(names) != 3 or self.form in _ROTATIONS):
            msg = f"meaning.pose.outputs takes one output{'' if self.form in _ROTATIONS else ' or three'}, not {names}"
            raise InputError(msg)
        have = [sizes[n] - (self.first if len(names) == 1 else 0) for n in names]
        if self.form == "bins":
            fits = have[0] > 3 and have[0] % 3 == 0 if len(names) == 1 else min(have) > 1
        else:
            fits = have[0] >= need if len(names) == 1 else set(have) == {1}
        if not fits:
            shown = ", ".join(f"{n!r} {sizes[n]}" for n in names)
            msg = f"meaning.pose: a pose in {self.form} does not fit the numbers that a face has in {shown}"
            raise InputError(msg)
        return dataclasses.replace(self, outputs=names)


@dataclass(frozen=True)
class Embedding:
    """An output that says who somebody is.

    Attributes:
        output: Its name; None for the only one.
        normalise: Whether it is brought to a length of 1 here.
    """

    output: str | None = None
    normalise: bool = True

    def resolved(self, spec: NetworkSpec) -> Embedding:
        return dataclasses.replace(self, output=_choose("embedding.output", self.output, [], spec))


@dataclass(frozen=True)
class Classes:
    """An output that says which of some things is so.

    Attributes:
        names: In the order of the output.
        output: Its name; None where only one can be meant.
        activation: What is still to be done to make probabilities of its numbers.
        first: Where the classes begin in the output.
    """

    names: tuple[str, ...]
    output: str | None = None
    activation: Literal["none", "softmax", "sigmoid"] = "none"
    first: int = 0

    def __post_init__(self) -> None:
        if not self.names or len(set(self.names)) != len(self.names) or self.first < 0:
            msg = "meaning.classes.names must name each class once, and first must not be negative"
            raise InputError(msg)

    def resolved(self, spec: NetworkSpec) -> Classes:
        sizes, end = _sizes(spec), self.first + len(self.names)
        output = _choose("classes.output", self.output, [n for n, size in sizes.items() if size == end], spec)
        if sizes[output] < end:
            msg = f"meaning.classes names {len(self.names)} classes, and {output!r} has {sizes[output]} numbers a face"
            raise InputError(msg)
        return dataclasses.replace(self, output=output)


@dataclass(frozen=True)
class Meaning:
    """What the outputs of a network that looks at a face mean; at least one thing.

    Attributes:
        points: Landmarks.
        pose: Yaw, pitch and roll of the head.
        embedding: Who it is.
        classes: Probabilities with names.
    """

    points: Points | None = None
    pose: Pose | None = None
    embedding: Embedding | None = None
    classes: Classes | None = None

    def __post_init__(self) -> None:
        if not any(True for _ in self._parts()):
            known = ", ".join(f"[meaning.{f.name}]" for f in dataclasses.fields(self))
            msg = f"meaning is empty: give one or more of {known}"
            raise InputError(msg)

    def _parts(self) -> Iterator[tuple[str, Points | Pose | Embedding | Classes]]:
        for field in dataclasses.fields(self):
            if (part := getattr(self, field.name)) is not None:
                yield field.name, part

    @property
    def gives(self) -> frozenset[str]:
        """What a face gets, in words: of two networks only one may give it."""
        classes = () if self.classes is None else self.classes.names
        return frozenset([*(n for n, _ in self._parts() if n != "classes"), *(f"the class {c!r}" for c in classes)])

    def resolved(self, spec: NetworkSpec) -> Meaning:
        """The same with the name of every output, checked against the network's.

        Raises:
            InputError: an output is missing, could be another one, or has another size.
        """
        parts: dict[str, Any] = {name: part.resolved(spec) for name, part in self._parts()}
        return Meaning(**parts)


def _shapes(spec: NetworkSpec) -> list[tuple[str, tuple[int | str, ...]]]:
    return [(t.name, t.shape) for t in spec.outputs]


def _sizes(spec: NetworkSpec) -> dict[str, int]:
    """How many numbers of a face each output holds; its first axis is the batch."""
    return {name: math.prod(d for d in shape[1:] if isinstance(d, int)) for name, shape in _shapes(spec)}


def _choose(key: str, named: str | None, fits: Sequence[str], spec: NetworkSpec) -> str:
    """The output of that name, or the only one, or the only one that fits.

    Raises:
        InputError: there is no such output, or none is named and several could be meant.
    """
    names = [t.name for t in spec.outputs]
    if named is not None and named not in names:
        msg = f"meaning.{key} names {named!r}, and the network's outputs are {', '.join(names)}"
        raise InputError(msg)
    chosen = [named] if named is not None else names if len(names) == 1 else list(fits)
    if len(chosen) != 1:
        msg = f"meaning.{key} must name one of the network's outputs: {', '.join(names)}"
        raise InputError(msg)
    return chosen[0]
