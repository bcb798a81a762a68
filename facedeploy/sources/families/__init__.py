"""Named descriptions of heads that people deploy: data files, one a family, which a user can read and copy."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from facedeploy.core.errors import InputError
from facedeploy.core.serialization import read_toml

__all__ = ["Family", "Head", "Looks", "Rows", "families", "family"]


@dataclass(frozen=True)
class Rows:
    """How many boxes there are, where the decoding of a head does not say it.

    Attributes:
        strides: As in `Decode`.
        anchors: As in `Decode`.
    """

    strides: tuple[int, ...]
    anchors: int | tuple[int, ...] = 1


@dataclass(frozen=True)
class Head:
    """One form that the outputs of a family may have.

    Attributes:
        outputs: What there are outputs of -> how many numbers a box each holds. "all" is one output with everything.
        decode: The keys of `Decode`. An output is named by its key in `outputs`; "*" is its own, or "all".
        optional: Which of `outputs` may be missing.
        boxes_of: How many boxes there are, where `decode` does not say it.
        joined: Whether an output holds the boxes of all levels, and never of one alone.
        size: (height, width) of the only input that this form is for; None for any.
    """

    outputs: dict[str, int]
    decode: dict[str, Any]
    optional: tuple[str, ...] = ()
    boxes_of: Rows | None = None
    joined: bool = False
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Looks:
    """One form of a network that looks at faces already found, by which it is recognised.

    Attributes:
        size: (height, width) of its input.
        outputs: Shape of each output, without the batch.
    """

    size: tuple[int, int]
    outputs: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Family:
    """A named description.

    Attributes:
        about: What it is, for people.
        heads: The forms of its outputs; none for a network that looks at faces already found.
        input: As `InputSettings`, plain.
        pipeline: As in `NetworkSettings`.
        looks: The forms of a network that looks at faces already found.
        meaning: Of its outputs, as `Meaning`, plain.
        crop: As `Crop`, plain.
    """

    about: str
    heads: tuple[Head, ...] = ()
    input: dict[str, Any] = field(default_factory=dict)
    pipeline: dict[str, Any] = field(default_factory=dict)
    looks: tuple[Looks, ...] = ()
    meaning: dict[str, Any] = field(default_factory=dict)
    crop: dict[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Any]:
        """What a TOML file would say of a network that looks at faces, but for the family's name."""
        return {"input": self.input, "pipeline": self.pipeline, "meaning": self.meaning, "crop": self.crop}


@functools.cache
def families() -> Mapping[str, Family]:
    """Name -> family, of all that come with the package."""
    return {path.stem: read_toml(Family, path) for path in sorted(Path(__file__).parent.glob("*.toml"))}


def family(name: str) -> Family:
    """A family by its name.

    Raises:
        InputError: there is no such family.
    """
    known = families()
    if name not in known:
        msg = f"there is no family {name!r}; families are {', '.join(known)}"
        raise InputError(msg)
    return known[name]
