"""A detector's head, described as data: which outputs hold what, and how numbers become pixels."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from facedeploy.core.errors import InputError

ROLES = ("boxes", "scores", "objectness", "landmarks")

_PART = re.compile(r"(?P<output>.+?)(?:\[(?P<columns>[\d:, ]+)\])?")
_MOST_LEVELS, _MOST_ANCHORS, _MOST_STRIDE, _MOST_POWER = 16, 64, 1024, 8.0


@dataclass(frozen=True)
class Part:
    """Some numbers of each box. output: that holds them. columns: which of its numbers; None for all."""

    output: str
    columns: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Decode:
    """How the outputs of a head become boxes, scores and landmarks.

    An output is named alone, or with the numbers of a box that are meant, as in "out[0:4]" or "out[1,0]"; several are
    joined, as in "offset[1,0] + size[1,0]". A head with one output for each level takes a list, in the order of
    `strides`.

    Attributes:
        boxes: Four numbers of a box, or 4 * `bins`.
        scores: One number, or one a class.
        box: What the four are. "corners": x1, y1, x2, y2. "centre-size": x, y, width, height. "distances": left, top,
            right, bottom of the cell's centre, in strides. "deltas": x, y in sizes of the anchor from its centre, then
            the logarithm of width and height in sizes of the anchor. "offsets": x, y from the cell's centre, width,
            height, in pixels. "squares": the logits of YOLOv5.
        objectness: A second score, which the first is multiplied with.
        landmarks: x, y of each point.
        unit: Of boxes and points that do not depend on a cell: "pixels" of the input, or "unit", where 1 is the whole
            width or height.
        strides: Pixels between the cells of each level.
        anchors: How many boxes a cell has: on every level, or on each.
        sizes: Of the anchors, in pixels: for each level and anchor its side, or [width, height]. Left out, the stride.
        clip: Whether no anchor is larger than the input.
        even: Whether the cells of a level share the input evenly, where the stride does not divide it.
        offset: Where in its cell the centre is, in cells.
        offset_pixels: What is added to that, in pixels.
        variances: Factors of the first two and the last two numbers of "deltas".
        inclusive: Whether x2 and y2 are the last pixels of a box, so that a width is x2 - x1 + 1.
        bins: Of "distances": how many bins the distribution of each distance has; 0 where the distance is given.
        activation: What the scores still need. "softmax" is over the classes.
        face_class: Which of several scores is a face's.
        score_channels: In a map of several anchors and classes, whether the channels go through the classes of one
            "anchor", or through the anchors of one "class".
        product: What scores and objectness give: their "product", or the "root" of it.
        powers: To which scores and objectness are taken before that.
        points: What landmarks are. "absolute": in `unit`. "prior": in sizes of the anchor from its centre. "cell": in
            strides from it. "box": in sizes of the box from its first corner. Left out, what goes with `box`.
        points_offset: As `offset`, of the landmarks; left out, the same.
        points_scale: Factor of "prior" and "cell" landmarks; left out, the first of `variances`.
        point_values: How many numbers a point has; x and y are the first two.

    Raises:
        InputError: names the key that contradicts another, or is out of its range.
    """

    boxes: str | tuple[str, ...]
    scores: str | tuple[str, ...]
    box: Literal["corners", "centre-size", "distances", "deltas", "offsets", "squares"]
    objectness: str | tuple[str, ...] | None = None
    landmarks: str | tuple[str, ...] | None = None
    unit: Literal["pixels", "unit"] = "pixels"
    strides: tuple[int, ...] = ()
    anchors: int | tuple[int, ...] = 1
    sizes: tuple[tuple[float | tuple[float, float], ...], ...] = ()
    clip: bool = False
    even: bool = False
    offset: float = 0.5
    offset_pixels: float = 0.0
    variances: tuple[float, float] = (1.0, 1.0)
    inclusive: bool = False
    bins: int = 0
    activation: Literal["none", "sigmoid", "softmax"] = "none"
    face_class: int | None = None
    score_channels: Literal["anchor", "class"] = "anchor"
    product: Literal["product", "root"] = "product"
    powers: tuple[float, float] = (1.0, 1.0)
    points: Literal["absolute", "prior", "cell", "box"] | None = None
    points_offset: float | None = None
    points_scale: float | None = None
    point_values: Literal[2, 3] = 2

    def __post_init__(self) -> None:
        self._check_levels()
        numbers = (self.offset, self.offset_pixels, *self.variances, self.points_offset or 0, self.points_scale or 0)
        if not all(math.isfinite(v) for v in numbers):
            msg = "decode.offset, offset_pixels, variances, points_offset and points_scale must be finite numbers"
            raise InputError(msg)
        if self.powers != (1, 1) and (self.objectness is None or not all(0 < v <= _MOST_POWER for v in self.powers)):
            msg = f"decode.powers are for a head with objectness, and lie above 0, up to {_MOST_POWER:g}"
            raise InputError(msg)
        if self.bins and (self.box != "distances" or not 2 <= self.bins <= 256):
            msg = f'decode.bins is for box = "distances", and lies between 2 and 256, not {self.bins}'
            raise InputError(msg)
        if self.face_class is not None and not 0 <= self.face_class <= 10000:
            msg = f"decode.face_class must be the number of a class, from 0 on, not {self.face_class}"
            raise InputError(msg)
        for role in ROLES:
            self.parts(role)

    def _check_levels(self) -> None:
        strides = self.strides
        relative = {"box": self.box not in ("corners", "centre-size"), "points": self.points in ("prior", "cell")}
        if not strides and (key := next((key for key, counts in relative.items() if counts), "")):
            form = f'{key} = "{getattr(self, key)}"'
            msg = f"decode.strides is missing: {form} counts from cells, so say how far apart they are"
            raise InputError(msg)
        if len(strides) > _MOST_LEVELS or not all(1 <= s <= _MOST_STRIDE for s in strides):
            msg = f"decode.strides must be at most {_MOST_LEVELS} numbers of pixels, not {list(strides)}"
            raise InputError(msg)
        for name, value in (("anchors", self.anchors), ("sizes", self.sizes)):
            if isinstance(value, tuple) and value and len(value) != len(strides):
                msg = f"decode.{name} must have an entry for each of the {len(strides)} strides, not {len(value)}"
                raise InputError(msg)
        sides = [v for level in self.sizes for size in level for v in (size if isinstance(size, tuple) else (size,))]
        if not all(0 < v < math.inf for v in sides) or not all(self.sizes):
            msg = "decode.sizes must be positive numbers of pixels, at least one for each level"
            raise InputError(msg)
        each = self.anchors if isinstance(self.anchors, tuple) else (self.anchors,) * len(strides)
        if self.sizes and self.anchors != 1 and each != self.anchors_of_levels:
            msg = f"decode.sizes already say how many anchors a cell has: leave decode.anchors ({self.anchors}) out"
            raise InputError(msg)
        if not all(1 <= n <= _MOST_ANCHORS for n in self.anchors_of_levels):
            msg = f"decode.anchors must lie between 1 and {_MOST_ANCHORS}, not {self.anchors}"
            raise InputError(msg)

    @property
    def anchors_of_levels(self) -> tuple[int, ...]:
        """How many boxes a cell has, on each level."""
        if self.sizes:
            return tuple(len(level) for level in self.sizes)
        return self.anchors if isinstance(self.anchors, tuple) else (self.anchors,) * len(self.strides)

    @property
    def point_form(self) -> Literal["absolute", "prior", "cell", "box"]:
        """What landmarks are."""
        return self.points or ("absolute" if self.box in ("corners", "centre-size") else "prior")

    def parts(self, role: str) -> tuple[tuple[tuple[str, ...], tuple[int, ...] | None], ...]:
        """What a role is joined from: outputs, one or one for each level, and the numbers that are meant.

        Raises:
            InputError: the levels' entries differ in more than the outputs, or are too few.
        """
        given = getattr(self, role)
        if given is None:
            return ()
        levels = [parse(text, role) for text in ((given,) if isinstance(given, str) else given)]
        if not isinstance(given, str) and len(levels) != len(self.strides):
            msg = f"decode.{role} must name an output for each of the {len(self.strides)} strides, not {len(levels)}"
            raise InputError(msg)
        forms = {tuple(part.columns for part in level) for level in levels}
        if len(forms) != 1:
            msg = f"decode.{role} must take the same numbers of the output of each level"
            raise InputError(msg)
        return tuple((tuple(part.output for part in same), same[0].columns) for same in zip(*levels, strict=True))


def parse(text: str, role: str) -> tuple[Part, ...]:
    """Read "a[0:2] + b[1,0]".

    Raises:
        InputError: it cannot be read; the sentence names the role.
    """
    return tuple(_part(piece, role) for piece in text.split(" + "))


def _part(text: str, role: str) -> Part:
    found = _PART.fullmatch(text.strip())
    if found is None:
        msg = f'decode.{role} must be an output, or some of its numbers as in "out[0:4]", not {text!r}'
        raise InputError(msg)
    if found["columns"] is None:
        return Part(found["output"])
    columns: list[int] = []
    for piece in found["columns"].split(","):
        first, _, last = piece.strip().partition(":")
        if not first.isdigit() or (last and not last.isdigit()) or (":" in piece and not last):
            msg = f'decode.{role} takes numbers of a box as in "out[0:4]" or "out[1,0]", not {text!r}'
            raise InputError(msg)
        start, stop = int(first), int(last) if last else int(first) + 1
        if not start < stop <= 1 << 16:
            msg = f"decode.{role} takes no number of a box in {text!r}"
            raise InputError(msg)
        columns += range(start, stop)
    return Part(found["output"], tuple(columns))


def runs(columns: Sequence[int]) -> list[tuple[int, int]]:
    """Columns as ranges (start, stop), in their order."""
    grouped = itertools.groupby(enumerate(columns), lambda pair: pair[1] - pair[0])
    return [(group[0][1], group[-1][1] + 1) for group in (list(g) for _, g in grouped)]
