"""What a matrix measures: a TOML file, read strictly."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from facedeploy.calibration.quantize_plan import Int8Options
from facedeploy.calibration.session import DEFAULT_COUNT
from facedeploy.core.errors import InputError
from facedeploy.core.network_spec import InputSize, read_size
from facedeploy.core.paths import StrPath
from facedeploy.core.serialization import read_toml
from facedeploy.core.target import Target
from facedeploy.models import registry
from facedeploy.runtimes import Substitute


@dataclass(frozen=True)
class _Model:
    """A [[models]] of the file, as it stands there."""

    model: str
    weights: str | None = None
    config: str | None = None
    input_sizes: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    calibration: str | None = None
    count: int = DEFAULT_COUNT
    max_drop: float | None = None
    force: bool = False
    require_faster: bool = False
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _File:
    """The file, as it stands there."""

    models: tuple[_Model, ...]
    targets: tuple[str, ...]
    images: tuple[str, ...]
    title: str = ""
    datasets: tuple[str, ...] = ()
    calibration: str | None = None
    threads: int = 0
    streams: int = 1
    seconds: float = 10.0
    max_drop: float = 0.5
    vendors: bool = False
    runtime: Substitute | None = None


@dataclass(frozen=True)
class Cell:
    """One artifact to make.

    Attributes:
        model: As `export` takes it.
        target: What to compile for.
        input_size: (height, width) in pixels, or "any"; None for the model's own.
        weights: As `export` takes them.
        config: As `export` takes it.
        int8: As `export` takes it; None where all is default.
        options: Changes to the pipeline.
    """

    model: str
    target: Target
    input_size: InputSize | None
    weights: Path | None
    config: Path | None
    int8: Int8Options | None
    options: dict[str, Any]

    @property
    def group(self) -> str:
        """Of the cells that are measured in turns: all targets of a model at one size."""
        size = self.input_size
        shown = "" if size is None else f"-{size}" if isinstance(size, str) else f"-{size[0]}x{size[1]}"
        return f"{Path(self.model).stem if self.model.endswith('.onnx') else self.model}{shown}"

    @property
    def name(self) -> str:
        return f"{self.group}-{self.target}"


@dataclass(frozen=True)
class Plan:
    """What a matrix measures.

    Attributes:
        title: Of the report.
        cells: In the order of the file. Of each group the first is what the others are compared with.
        images: Picture files and folders of them.
        datasets: As on the command line of `benchmark`.
        threads: CPU threads per network; 0 for every core of this process.
        streams: How many pictures at once, for the throughput.
        seconds: Of measuring each artifact.
        max_drop: Points of average precision that the fastest may lose.
        vendors: Whether to time with the vendors' own tools too.
        runtime: "onnxruntime" runs the ONNX file of a `trt` artifact where there is no GPU.
    """

    title: str
    cells: tuple[Cell, ...]
    images: tuple[Path, ...]
    datasets: tuple[str, ...]
    threads: int
    streams: int
    seconds: float
    max_drop: float
    vendors: bool
    runtime: Substitute | None


def read_plan(path: StrPath) -> Plan:
    """Read a matrix. Paths in it are relative to its folder, and may name environment variables ($WEIGHTS).

    Raises:
        InputError: what is wrong in the file, or a path in it that is not there; nothing has been done yet.
    """
    path = Path(path)
    file = read_toml(_File, path)
    folder = path.parent
    positive = {"seconds": file.seconds > 0, "threads": file.threads >= 0, "streams": file.streams >= 1}
    for key, right in positive.items():
        if not right:
            msg = f"{path}: {key} must be more than nothing, not {getattr(file, key)}"
            raise InputError(msg)
    for key in ("models", "targets", "images"):
        if not getattr(file, key):
            msg = f"{path}: {key} is empty, so there is nothing to measure"
            raise InputError(msg)

    def place(text: str) -> Path:
        found = folder / _expanded(text, path)
        if not found.exists():
            msg = f"{path} names {text}, and there is no {found}"
            raise InputError(msg)
        return found

    cells = tuple(cell for model in file.models for cell in _cells(model, file, path, place))
    names = [cell.name for cell in cells]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        msg = f"{path} asks for {twice[0]} twice"
        raise InputError(msg)
    return Plan(
        file.title or path.stem,
        cells,
        tuple(map(place, file.images)),
        tuple(_dataset(text, path) for text in file.datasets),
        file.threads,
        file.streams,
        file.seconds,
        file.max_drop,
        file.vendors,
        file.runtime,
    )


def _cells(model: _Model, file: _File, path: Path, place: Callable[[str], Path]) -> list[Cell]:
    own = model.model.endswith(".onnx")
    source = str(place(model.model)) if own else model.model
    if not own and ":" not in source:
        registry.get(source)  # Refuses what it does not know.
    weights = None if model.weights is None else place(model.weights)
    calibration = model.calibration if model.calibration is not None else file.calibration
    config = None if model.config is None else place(model.config)
    int8 = Int8Options(
        None if calibration is None else place(calibration),
        count=model.count,
        max_drop=model.max_drop,
        force=model.force,
        require_faster=model.require_faster,
    )
    sizes: list[InputSize | None] = [_size(text, path) for text in model.input_sizes]
    targets = [Target.parse(text) for text in model.targets or file.targets]
    return [
        Cell(
            source,
            target,
            size,
            weights,
            config,
            int8 if target.precision == "int8" and int8 != Int8Options() else None,
            model.options,
        )
        for size in sizes or [None]
        for target in targets
    ]


def _dataset(text: str, path: Path) -> str:
    """`KIND:PATH,OPTION=VALUE` with its paths seen from the folder of the file."""
    kind, colon, rest = _expanded(text, path).partition(":")
    place, *options = rest.split(",")
    for i, option in enumerate(options):
        name, _, value = option.partition("=")
        if name in ("images", "weights"):
            options[i] = f"{name}={path.parent / value}"
    return f"{kind}:{','.join([str(path.parent / place), *options])}" if colon else text


def _size(text: str, path: Path) -> InputSize:
    if text == "any":
        return "any"
    size = read_size(text)
    if size is None:
        msg = f'{path}: an input size is HEIGHTxWIDTH such as "480x640", or "any", not {text!r}'
        raise InputError(msg)
    return size


def _expanded(text: str, path: Path) -> str:
    expanded = os.path.expanduser(os.path.expandvars(text))  # noqa: PTH111  # Path.expanduser leaves variables.
    if "$" in expanded:
        msg = f"{path} names {text}, and that environment variable is not set"
        raise InputError(msg)
    return expanded
