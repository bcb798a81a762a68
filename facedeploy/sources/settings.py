"""The small TOML file beside a network: its input, and what its outputs mean. Strict: an unknown key is an error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from facedeploy import pipelines
from facedeploy.artifact.manifest import PipelineEntry
from facedeploy.core.errors import InputError
from facedeploy.core.network_spec import InputSize, NetworkSpec, Size, read_size
from facedeploy.core.preprocess import Preprocess
from facedeploy.core.serialization import from_plain, read_toml_tables, to_plain
from facedeploy.core.terms import Terms
from facedeploy.graph.decode.build import BOXES, LANDMARKS, SCORES
from facedeploy.graph.decode.description import Decode
from facedeploy.graph.interface import PictureInput
from facedeploy.pipelines.crop_settings import Crop, Meaning
from facedeploy.pipelines.custom import Outputs

T = TypeVar("T")


@dataclass(frozen=True)
class InputSettings:
    """What a network wants of a picture.

    Attributes:
        size: HEIGHTxWIDTH in pixels, for a network that leaves it open.
        colours: As in `Preprocess`; or "grey" for a network of one channel.
        mean: As in `Preprocess`, or one number for all colours.
        scale: As in `Preprocess`.
        constants: Values of inputs that are no picture, by name.
    """

    size: str | None = None
    colours: Literal["bgr", "rgb", "grey"] = "bgr"
    mean: float | tuple[float, float, float] = 0.0
    scale: float | tuple[float, float, float] = 1.0
    constants: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.size is not None and read_size(self.size) is None:
            msg = f'input.size must be HEIGHTxWIDTH such as "240x320", not {self.size!r}'
            raise InputError(msg)
        self.preprocess()

    def preprocess(self) -> Preprocess:
        """What is done to the three channels of a picture; a network of one makes grey of them itself."""
        mean = self.mean if isinstance(self.mean, tuple) else (self.mean,) * 3
        return Preprocess("bgr" if self.colours == "grey" else self.colours, mean, self.scale)

    def check(self, picture: PictureInput) -> None:
        """Check that this can be said of a network.

        Raises:
            InputError: it takes another number of channels, or pixels as they are.
        """
        if self.colours == "grey" and picture.channels != 1:
            msg = f"input.colours is grey, and the network takes {picture.channels} channels: say bgr or rgb"
            raise InputError(msg)
        preprocess = self.preprocess()
        if picture.channels == 1 and (len(set(preprocess.mean)) > 1 or len(set(preprocess.scales)) > 1):
            msg = "the network takes one channel: give input.mean and input.scale one number each"
            raise InputError(msg)
        if picture.unsigned and (any(preprocess.mean) or any(v != 1 for v in preprocess.scales)):
            msg = "the network takes pixels of 8 bits and normalises them itself: leave input.mean and input.scale out"
            raise InputError(msg)


@dataclass(frozen=True)
class NetworkSettings:
    """What the TOML file beside a network says.

    Attributes:
        family: The named description that the rest adds to; None for none.
        input: What the network wants.
        outputs: What it gives, where it decodes its boxes itself; None where that is not said.
        decode: What its head gives, where the boxes are still to be decoded; None where that is not said.
        pipeline: Options of the pipeline, such as `protocol` and `score_threshold`.
        check: Whether it must find the face on a photograph; false for a network that is not for photographs.
        meaning: What a network that looks at one face says of it; None for one that finds faces, or is not known.
        crop: What such a network sees of the picture; None for the box.
        source: What its weights may be used for; None where that is not said.

    Raises:
        InputError: more than one of `outputs`, `decode` and `meaning` are there, or `crop` without `meaning`.
    """

    family: str | None = None
    input: InputSettings = field(default_factory=InputSettings)
    outputs: Outputs | None = None
    decode: Decode | None = None
    pipeline: dict[str, Any] = field(default_factory=dict)
    check: bool = True
    meaning: Meaning | None = None
    crop: Crop | None = None
    source: Terms | None = None

    def __post_init__(self) -> None:
        if self.meaning is None and self.crop is not None:
            msg = "[crop] is for a network that looks at one face: say under [meaning] what its outputs mean"
            raise InputError(msg)
        if self.meaning is not None and (self.outputs, self.decode) != (None, None):
            msg = "a network finds faces, with [outputs] or [decode], or looks at one, with [meaning]: leave one"
            raise InputError(msg)
        if self.outputs is not None and self.decode is not None:
            msg = "[outputs] is for a network that decodes its boxes itself, [decode] for one that does not: leave one"
            raise InputError(msg)

    @property
    def described(self) -> bool:
        """Whether the outputs have a meaning."""
        return (self.outputs, self.decode, self.meaning) != (None, None, None)

    def configure(self, spec: NetworkSpec, options: Mapping[str, Any] | None) -> PipelineEntry:
        """The pipeline for a network, with some options changed. spec: with its head decoded.

        Raises:
            InputError: an option is unknown, or the network has not the outputs that are named.
        """
        base = {"preprocess": to_plain(self.input.preprocess())}
        changes = {**self.pipeline, **(options or {})}
        outputs = self.outputs
        if self.meaning is not None:
            own = {"meaning": to_plain(self.meaning.resolved(spec)), "crop": to_plain(self.crop or Crop())}
            return pipelines.configure("crop", changes, {**base, **own})
        if self.decode is not None:
            landmarks = None if self.decode.landmarks is None else LANDMARKS
            outputs = Outputs(BOXES, SCORES, "pixels", landmarks=landmarks)
        if outputs is None:
            return pipelines.configure("tensors", changes, base)
        outputs.check(spec)
        return pipelines.configure("boxes", changes, {**base, "outputs": to_plain(outputs)})


@dataclass(frozen=True)
class WrittenSettings:
    """A TOML file as it stands: what it leaves out may come from a family.

    plain: its tables. where: its path, for messages.
    """

    plain: Mapping[str, Any] = field(default_factory=dict)
    where: str = ""

    @property
    def family(self) -> str | None:
        name = self.plain.get("family")
        if name is not None and not isinstance(name, str):
            msg = f"{self.where}: family must be a name, not {name!r}"
            raise InputError(msg)
        return name

    def size(self, asked: InputSize | None) -> Size | None:
        """The (height, width) that the user asks for, on the command line or here.

        Raises:
            InputError: it is "any", which only published models take.
        """
        if asked == "any":
            msg = "a network of your own is compiled for one size: give --input-size HEIGHTxWIDTH"
            raise InputError(msg)
        size = self.input.size
        return asked or (read_size(size) if size else None)

    @property
    def input(self) -> InputSettings:
        """What the file itself says of the input, without a family."""
        return self._read(InputSettings, self.plain.get("input", {}), "input")

    def read(self, base: Mapping[str, Any] | None = None) -> NetworkSettings:
        """The settings, over those of `base`.

        Raises:
            InputError: a key is unknown or a value wrong.
        """
        return self._read(NetworkSettings, _over(base or {}, self.plain))

    def _read(self, kind: type[T], plain: Any, where: str = "") -> T:
        try:
            return from_plain(kind, plain, where)
        except InputError as error:
            msg = f"{self.where}: {error}" if self.where else str(error)
            raise InputError(msg) from error


def read_settings(path: Path) -> WrittenSettings:
    """Read a TOML file.

    Raises:
        InputError: the file is missing, is no TOML, or has an unknown key or a wrong value.
    """
    return WrittenSettings(read_toml_tables(path), str(path))


def _over(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings, with those of `changes` winning key by key."""
    merged = dict(base)
    for key, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _over(merged[key], value) if both else value
    return merged
