"""The small TOML file beside a network: its input, and what its outputs mean. Strict: an unknown key is an error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from facedeploy import pipelines
from facedeploy.artifact.manifest import PipelineEntry
from facedeploy.core.errors import InputError
from facedeploy.core.network_spec import InputSize, NetworkSpec, Size, read_size
from facedeploy.core.preprocess import Preprocess
from facedeploy.core.serialization import read_toml, to_plain
from facedeploy.pipelines.custom import Outputs


@dataclass(frozen=True)
class InputSettings:
    """What a network wants of a picture.

    Attributes:
        size: HEIGHTxWIDTH in pixels, for a network that leaves it open.
        colours: As in `Preprocess`.
        mean: As in `Preprocess`.
        scale: As in `Preprocess`.
    """

    size: str | None = None
    colours: Literal["bgr", "rgb"] = "bgr"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    scale: float | tuple[float, float, float] = 1.0

    def __post_init__(self) -> None:
        if self.size is not None and read_size(self.size) is None:
            msg = f'input.size must be HEIGHTxWIDTH such as "240x320", not {self.size!r}'
            raise InputError(msg)
        self.preprocess()

    def preprocess(self) -> Preprocess:
        return Preprocess(self.colours, self.mean, self.scale)


@dataclass(frozen=True)
class NetworkSettings:
    """What the TOML file beside a network says.

    Attributes:
        input: What the network wants.
        outputs: What it gives; None where that is not said.
        pipeline: Options of the pipeline, such as `protocol` and `score_threshold`.
    """

    input: InputSettings = field(default_factory=InputSettings)
    outputs: Outputs | None = None
    pipeline: dict[str, Any] = field(default_factory=dict)

    def size(self, asked: InputSize | None) -> Size | None:
        """The (height, width) that the user asks for, on the command line or here.

        Raises:
            InputError: it is "any", which only published models take.
        """
        if asked == "any":
            msg = "a network of your own is compiled for one size: give --input-size HEIGHTxWIDTH"
            raise InputError(msg)
        return asked or (read_size(self.input.size) if self.input.size else None)

    def configure(self, spec: NetworkSpec, options: Mapping[str, Any] | None) -> PipelineEntry:
        """The pipeline for a network, with some options changed.

        Raises:
            InputError: an option is unknown, or the network has not the outputs that are named.
        """
        base = {"preprocess": to_plain(self.input.preprocess())}
        if self.outputs is None:
            return pipelines.configure("tensors", {**self.pipeline, **(options or {})}, base)
        self.outputs.check(spec)
        base["outputs"] = to_plain(self.outputs)
        return pipelines.configure("boxes", {**self.pipeline, **(options or {})}, base)


def read_settings(path: Path) -> NetworkSettings:
    """Read a TOML file.

    Raises:
        InputError: the file is missing, is no TOML, or has an unknown key or a wrong value.
    """
    return read_toml(NetworkSettings, path)
