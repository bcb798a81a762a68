"""`facedeploy inspect`: what a network is, what it gives, which family that is, and which backend takes it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

from facedeploy.core.errors import ConversionError, InputError
from facedeploy.core.network_spec import InputSize, NetworkSpec, Size
from facedeploy.core.optional_imports import onnx, require
from facedeploy.core.progress import Progress, silent
from facedeploy.export.takes import BackendAnswer, ask_backends
from facedeploy.graph.facts import FileFacts, Work, facts_of, work_of
from facedeploy.graph.interface import PictureInput, free_inputs, read_picture
from facedeploy.sources import onnx_file, torch_callable
from facedeploy.sources.behind import behind_detector
from facedeploy.sources.checkpoint_file import refuse_checkpoint
from facedeploy.sources.custom_network import OwnNetwork
from facedeploy.sources.decoded import Described, candidates, contradiction
from facedeploy.sources.settings import NetworkSettings, WrittenSettings, read_settings
from facedeploy.sources.settings_file import check_place, write_settings

T = TypeVar("T")
Declared = tuple[int | None, int | None]

# Of a network that leaves its size open: the usual one, and what is tried where that does not run.
_SIDES = (320, 256, 224, 192, 160, 128, 112, 96, 64)
_SIZES: tuple[Size, ...] = ((640, 640), (480, 640), *((side, side) for side in _SIDES))


@dataclass(frozen=True)
class Fit:
    """A family that a network's outputs fit.

    Attributes:
        family: Its name; None for what the settings say without naming one.
        reason: Why it may be that.
        problem: What speaks against it: what cannot be true of its faces; empty where nothing does.
    """

    family: str | None
    reason: str
    problem: str


@dataclass(frozen=True)
class Inspection:
    """What a network is.

    Attributes:
        name: Of the file, or of the callable.
        file: What the file says of itself; None for a callable.
        size: (height, width) in pixels, at which the rest was looked at; None where it does not run.
        size_from: Who says that size: the file, the caller, the settings, or nobody.
        network: Input and outputs at that size; None where it does not run.
        work: Parameters and multiply-accumulates; None where it cannot be converted.
        kind: "detector": of one family, or described. "looks": the same, of a network that looks at faces. "doubt": it
            may be several. "behind": it seems to look at faces that another network found. "unknown": none of these.
        reason: Why it is that.
        fits: Every family that its outputs fit, or the description of its settings.
        settings: What it wants and gives; None where that is not known, or in doubt.
        backends: What each backend says of it.
        notes: What was changed of a file before it was looked at, a line each.
        refused: Why it cannot be exported as it is; empty where nothing is known that speaks against it.
        written: The file of settings that was written; None for none.
    """

    name: str
    file: FileFacts | None = None
    size: Size | None = None
    size_from: Literal["file", "caller", "settings", "nobody"] = "file"
    network: NetworkSpec | None = None
    work: Work | None = None
    kind: Literal["detector", "looks", "doubt", "behind", "unknown"] = "unknown"
    reason: str = ""
    fits: tuple[Fit, ...] = ()
    settings: NetworkSettings | None = None
    backends: tuple[BackendAnswer, ...] = ()
    notes: tuple[str, ...] = ()
    refused: str = ""
    written: str | None = None

    @property
    def families(self) -> tuple[str, ...]:
        """Names of the families that it may be: those that nothing speaks against, or all that fit."""
        good = [fit for fit in self.fits if not fit.problem] or self.fits
        return tuple(dict.fromkeys(fit.family for fit in good if fit.family is not None))


def inspect(
    model: str | os.PathLike[str],
    weights: str | os.PathLike[str] | None = None,
    *,
    input_size: InputSize | None = None,
    config: str | os.PathLike[str] | None = None,
    family: str | None = None,
    write: str | os.PathLike[str] | None = None,
    progress: Progress = silent,
) -> Inspection:
    """Say what a network of your own is, before anything is exported.

    Args:
        model: An ONNX file, or `package.module:callable`, which makes a PyTorch network.
        weights: The checkpoint of a callable; None for an ONNX file.
        input_size: (height, width) in pixels; None for what the file or its settings say, and else 640x640.
        config: TOML file that describes the network; None for `x.toml` beside `x.onnx`, if it is there.
        family: What its outputs are, such as "scrfd"; None for what its settings say, or what it looks like.
        write: TOML file to write the settings to, which must not exist; None for none.
        progress: Called with the name of each step.

    Returns:
        What was found. A file that can be read and not deployed says why in `refused`.

    Raises:
        InputError: it is no network, or a setting is wrong; or there is nothing to write.
        CheckpointError: the weights are not those of the network.
        BackendUnavailableError: the exporter is not installed.
    """
    for module in ("onnx", "onnxruntime", "onnxsim"):
        require(module, "export")
    name = os.fspath(model)
    if write is not None:
        check_place(Path(write))
    written = _settings(Path(name), config)
    if ":" in name and not Path(name).exists() and os.path.sep not in name:
        found = _of_callable(name, weights, written, input_size, family, progress)
    else:
        if weights is not None:
            msg = f"{name} holds its own weights: leave --weights out"
            raise InputError(msg)
        found = _of_file(Path(name), written, input_size, family, progress)
    return found if write is None else _write(found, Path(write))


def _settings(path: Path, config: str | os.PathLike[str] | None) -> WrittenSettings:
    beside = path.with_suffix(".toml")
    if config is None and not (path.suffix.lower() == ".onnx" and beside.is_file()):
        return WrittenSettings()
    return read_settings(beside if config is None else Path(config))


def _of_callable(
    name: str,
    weights: str | os.PathLike[str] | None,
    written: WrittenSettings,
    input_size: InputSize | None,
    family: str | None,
    progress: Progress,
) -> Inspection:
    if weights is None:
        msg = f"give --weights the checkpoint of the network that {name} makes"
        raise InputError(msg)
    asked = written.size(input_size)
    found = Inspection(name, size_from=_size_from(input_size, asked))

    def make(size: Size) -> OwnNetwork:
        return torch_callable.own_network(name, Path(weights), size)

    own = _first_that_runs(make, (asked,) if asked else _SIZES)
    return _looked_at(found, own, written, family, progress)


def _of_file(
    path: Path, written: WrittenSettings, input_size: InputSize | None, family: str | None, progress: Progress
) -> Inspection:
    refuse_checkpoint(path)
    model = onnx_file.read(path)
    asked = written.size(input_size)
    declared = _declared_size(model)
    said = asked in (None, declared) and (declared is None or None not in declared)
    found = Inspection(str(path), facts_of(model), size_from="file" if said else _size_from(input_size, asked))
    try:
        own = _first_that_runs(lambda size: onnx_file.own_network(path, size, written.input), _sizes(declared, asked))
    except InputError as error:
        return replace(found, refused=str(error))
    return _looked_at(found, own, written, family, progress)


def _size_from(input_size: InputSize | None, asked: Size | None) -> Literal["caller", "settings", "nobody"]:
    if asked is None:
        return "nobody"
    return "settings" if input_size is None else "caller"


def _declared_size(model: onnx.ModelProto) -> Declared | None:
    """(height, width) of the picture that a file takes, None for what it leaves open; None where it takes none."""
    pictures = [picture for value in free_inputs(model) if (picture := read_picture(value)) is not None]
    pictures = [picture for picture in pictures if len(picture.layout) == 4] or pictures
    return pictures[0].size if pictures else None


def _sizes(declared: Declared | None, asked: Size | None) -> list[Size | None]:
    """The sizes to look at, the best one first."""
    if asked is not None or declared is None or None not in declared:
        return [asked]
    height, width = declared
    return list(dict.fromkeys((height or h, width or w) for h, w in _SIZES))


def _first_that_runs(make: Callable[[T], OwnNetwork], sizes: Iterable[T]) -> OwnNetwork:
    """The network at the first of some sizes that it runs at.

    Raises:
        InputError: it runs at none; says what is wrong at the first.
    """
    problem: InputError | None = None
    for size in sizes:
        try:
            return make(size)
        except InputError as error:
            problem = problem or error
    assert problem is not None
    raise problem


def _looked_at(
    found: Inspection, own: OwnNetwork, written: WrittenSettings, family: str | None, progress: Progress
) -> Inspection:
    progress("what its outputs mean")
    found, chosen = _with_meaning(
        replace(found, size=own.raw.picture_size, network=own.raw, notes=own.notes), own, written, family
    )
    with tempfile.TemporaryDirectory() as folder:
        graph = Path(folder) / "network.onnx"
        try:
            own.write(graph, None if chosen is None else chosen.head)
        except ConversionError as error:
            return replace(found, refused=str(error))
        progress("which backends take it")
        backends = ask_backends(own.raw if chosen is None else chosen.spec, graph)
        return replace(found, work=work_of(onnx.load(graph)), backends=backends)


def _with_meaning(
    found: Inspection, own: OwnNetwork, written: WrittenSettings, family: str | None
) -> tuple[Inspection, Described | None]:
    """The same, with what its outputs mean; and that, where it is one thing."""
    fits = candidates(found.name, own.raw, written, family)
    problems = [contradiction(c, own.run) for c in fits]
    shown = tuple(
        Fit(c.settings.family, c.reason or f"{written.where} describes it", problem)
        for c, problem in zip(fits, problems, strict=True)
    )
    found = replace(found, fits=shown)
    good = [i for i, problem in enumerate(problems) if not problem] or list(range(len(fits)))
    if not good:
        behind = behind_detector(own.raw)
        return replace(found, kind="behind" if behind else "unknown", reason=behind), None
    if len({fits[i].settings.family for i in good}) > 1:
        return replace(found, kind="doubt", reason="; ".join(dict.fromkeys(shown[i].reason for i in good))), None
    chosen, fit = fits[good[0]], shown[good[0]]
    settings = _with_size(chosen.settings, found)
    refused = "" if own.picture is None else _unfit(settings, own.picture)
    if fit.problem and settings.family is None:
        refused = refused or f"{written.where}: {fit.problem}"
    kind: Literal["detector", "looks"] = "detector" if settings.meaning is None else "looks"
    return replace(found, kind=kind, reason=fit.reason, settings=settings, refused=refused), chosen


def _unfit(settings: NetworkSettings, picture: PictureInput) -> str:
    """Why the input of settings cannot be that of a file; empty where it can."""
    try:
        settings.input.check(picture)
    except InputError as error:
        return str(error)
    return ""


def _with_size(settings: NetworkSettings, found: Inspection) -> NetworkSettings:
    """With the size of a network that leaves it open."""
    if found.size_from == "file" or found.size is None:
        return settings
    return replace(settings, input=replace(settings.input, size="{}x{}".format(*found.size)))


def _write(found: Inspection, path: Path) -> Inspection:
    """Write the settings.

    Raises:
        InputError: there are none, or they are in doubt.
    """
    if found.refused:
        raise InputError(found.refused)
    if found.settings is None:
        names = " or ".join(found.families)
        known = f"may be {names}: say which with --family"
        why = known if names else "is of no known family: describe its head under [decode]"
        msg = f"{path} is not written, as {found.name} {why}"
        raise InputError(msg)
    write_settings(found.settings, path, f"{found.settings.family or Path(found.name).stem}: {found.reason}")
    return replace(found, written=str(path))
