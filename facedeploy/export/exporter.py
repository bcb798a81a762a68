"""`facedeploy export`: source -> ONNX -> compiled networks, each loaded again and compared, -> artifact."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facedeploy import pipelines
from facedeploy.artifact.folder import Artifact, staged, write_manifest
from facedeploy.artifact.manifest import Calibration, Manifest, NetworkEntry, Parity, SourceFile
from facedeploy.calibration.quantize_plan import Int8Options, Quantisation, quantisation
from facedeploy.core.errors import InputError, ParityError, SlowerError
from facedeploy.core.network_spec import InputSize
from facedeploy.core.optional_imports import installed_versions, require
from facedeploy.core.progress import Progress, Watch, silent, unwatched
from facedeploy.core.target import Backend, Target
from facedeploy.export import compiler
from facedeploy.export.blame import with_blame
from facedeploy.export.check_faces import Limits, TooCoarseError, check_on_scenes
from facedeploy.export.check_network import NetworkExport
from facedeploy.export.ncnn.ncnn2table import find_tables, read_tables
from facedeploy.export.one_network import export_network
from facedeploy.export.scenes import feeds_on_scenes
from facedeploy.export.speed import against_fp32
from facedeploy.graph.lowering import DeformConvForm
from facedeploy.machine.linux import read_machine
from facedeploy.sources.open import open_source
from facedeploy.sources.source import Source
from facedeploy.verification import tensors as parity

if TYPE_CHECKING:
    from facedeploy.models.architecture import Modules

_NEEDS: dict[Backend, tuple[tuple[str, str], ...]] = {
    "torch": (),
    "onnx": (),
    "openvino": (("openvino", "openvino"),),
    "ncnn": (("ncnn", "ncnn"), ("pnnx", "export")),
    "trt": (),
}
# Backends whose int8 runs on the processor that exports, so that its speed can be looked at.
_TIMED: tuple[Backend, ...] = ("openvino", "ncnn")
_SLOWER = 0.97  # Of fp32's speed; the best rounds of a busy machine are good to a few percent.
# Their forms of DeformConv and of the priors are constants of one size.
_FIXED_SIZE: tuple[Backend, ...] = ("ncnn", "trt")
_NAME_LIMIT = 200  # ncnn reads a name into 256 bytes.
_TOOLS = ("facedeploy", "torch", "onnx", "onnxsim", "onnxruntime", "openvino", "ncnn", "pnnx")
_TENSORRT = ("tensorrt", "tensorrt-rtx-cu13")


def export(
    model: str,
    target: str | Target,
    weights: str | os.PathLike[str] | None = None,
    output: str | os.PathLike[str] | None = None,
    *,
    input_size: InputSize | None = None,
    deform_conv: DeformConvForm | None = None,
    config: str | os.PathLike[str] | None = None,
    options: Mapping[str, Any] | None = None,
    family: str | None = None,
    int8: Int8Options | None = None,
    progress: Progress = silent,
    watch: Watch | None = None,
) -> Artifact:
    """Compile a model for a target and write the artifact.

    Args:
        model: Id of a model, as `facedeploy models` lists them; or an ONNX file; or `package.module:callable`, which
            makes a PyTorch network and is looked for in the current folder too.
        target: What to compile for, such as "openvino-fp16".
        weights: Checkpoint file, or the folder of a model with several networks; None for the embedded model and for
            an ONNX file.
        output: Folder to write, which must not exist or be empty; None for `<model>-<target>` in the current folder,
            with the stem of a file as the model.
        input_size: (height, width) in pixels, or "any" for a network without a fixed size; None for the model's own.
        deform_conv: The form of deformable convolutions; None for what suits the backend.
        config: TOML file that describes your own network; None for `x.toml` beside `x.onnx`, if it is there.
        options: Changes to the pipeline's configuration, such as {"min_face": 20}. The artifact keeps them.
        family: What the outputs of your own network are, such as "scrfd"; None for what its settings say, or what it
            looks like.
        int8: For an int8 target: what to calibrate with, and what stays in float. None for the defaults.
        progress: Called with the name of each step.
        watch: Shows the progress over picture files; None for no progress.

    Returns:
        The artifact that was written, read again and checked.

    Raises:
        InputError: the call, or a file that it names, is wrong. As with every error, nothing is written.
        CheckpointError: the weights are not those of the model.
        BackendUnavailableError: the exporter or the backend is not installed, or this machine cannot run it.
        ConversionError: a converter failed, or wrote a network that its own runtime does not load.
        ParityError: a compiled network does not give the answers of the PyTorch one.
        SlowerError: an int8 network is slower than the float one here, and is required not to be.
    """
    target = target if isinstance(target, Target) else Target.parse(target)
    for module, extra in (("torch", "export"), ("onnxruntime", "export"), *_NEEDS[target.backend]):
        require(module, extra)
    if input_size == "any" and target.backend in _FIXED_SIZE:
        msg = f"{target} compiles {model} for one size: give --input-size HEIGHTxWIDTH"
        raise InputError(msg)
    source = open_source(
        model,
        None if weights is None else Path(weights),
        input_size=input_size,
        config=None if config is None else Path(config),
        options=options,
        family=family,
    )
    _check_target(source, target)
    if int8 is not None and target.precision != "int8":
        msg = f"{target} has no use for calibration: that is for int8 targets"
        raise InputError(msg)
    output = output or f"{source.model}-{target}"
    with staged(output) as folder, tempfile.TemporaryDirectory() as work:
        parts = _save_weights(source.modules, folder) if target.backend == "torch" else {}
        chosen = Quantisation()
        if target.precision == "int8":
            chosen = _quantisation(source, int8 or Int8Options(), progress, watch or unwatched)
        seen = feeds_on_scenes(source)
        jobs: list[NetworkExport] = []
        networks: list[NetworkEntry] = []
        rows: list[Parity] = []
        for network in source.networks:
            feeds = [*seen[network.spec.name], *network.feeds(pipelines.preprocess(source.pipeline))]
            layers = chosen.plan.get(network.spec.name, {})
            job = NetworkExport(source, network, target, folder, Path(work), feeds, deform_conv, layers)
            entry, checked = export_network(job, parts, progress)
            jobs.append(job)
            networks.append(entry)
            rows += checked
        calibration, limits = chosen.calibration, Limits()
        if target.backend != "torch":
            progress("the faces on drawn scenes")
            # A float precision was judged by its tensors; of int8 pictures say more than drawn faces.
            forced = int8 is not None and int8.force
            on_pictures = calibration is not None and calibration.loss is not None
            judged = target.precision != "int8" or forced or on_pictures
            try:
                limits = check_on_scenes(jobs, networks, judged)
            except TooCoarseError:
                raise
            except ParityError as error:
                raise with_blame(error, jobs, networks, progress) from error
            if limits.faces and not judged:
                parity.check(rows, target.precision)
        if calibration is not None and target.backend in _TIMED:
            progress("compare the speed with fp32")
            calibration = _timed(calibration, jobs, networks, int8 is not None and int8.require_faster)
        write_manifest(
            folder,
            Manifest(
                model=source.model,
                target=target,
                networks=tuple(networks),
                pipeline=source.pipeline,
                source=tuple(SourceFile(n, source.files[n].name, digest) for n, digest in source.digests.items()),
                tools=installed_versions(*_TOOLS, *_TENSORRT),
                parity=tuple(rows),
                calibration=calibration,
                origin=source.origin,
                settings=dict(source.settings),
                recognised=source.recognised,
                notes=(*source.notes, *limits.notes),
                options=dict(options or {}),
            ),
        )
    return Artifact.open(output)


def _quantisation(source: Source, options: Int8Options, progress: Progress, watch: Watch) -> Quantisation:
    """The layers to quantise: as ncnn's own tool says, or from a calibration of ours."""
    if tables := find_tables(options.calibration):
        return read_tables(source, tables)
    return quantisation(source, options, progress=progress, watch=watch)


def _check_target(source: Source, target: Target) -> None:
    """Refuse what cannot be done, before any work.

    Raises:
        InputError: an own network for PyTorch, or a name that a backend cannot hold.
    """
    if target.backend == "torch" and source.origin != "registry":
        msg = f"an artifact holds no code, so {source.model} cannot be exported for {target}; onnx-fp32 is a reference"
        raise InputError(msg)
    names = [t.name for n in source.networks for t in (*n.spec.inputs, *n.spec.outputs)]
    bad = [name for name in names if any(c.isspace() for c in name) or len(name) > _NAME_LIMIT]
    if target.backend == "ncnn" and bad:
        msg = (
            f"ncnn cannot hold the name {bad[0]!r}: rename that tensor, without spaces and in 200 letters, in the ONNX"
        )
        raise InputError(msg)


def _timed(
    calibration: Calibration, jobs: Sequence[NetworkExport], networks: Sequence[NetworkEntry], required: bool
) -> Calibration:
    """With how much faster than fp32 the int8 networks are on this machine.

    Raises:
        SlowerError: they are slower, and are required not to be.
    """
    target = jobs[0].target
    machine = read_machine()
    ratio = against_fp32(jobs, networks, compiler.find(target.backend))
    if ratio < _SLOWER and required:
        msg = (
            f"{target} takes {1 / ratio:.2f} times as long as {target.backend}-fp32 on this machine, so it is not "
            "written: export fp32 or fp16, or leave --require-faster out"
        )
        raise SlowerError(msg)
    return dataclasses.replace(calibration, faster=ratio, machine=f"{machine.cpu}, {len(machine.usable)} cores")


def _save_weights(modules: Modules, folder: Path) -> dict[str, str]:
    """Write the state dict of each part; returns part -> file name."""
    save_file = require("safetensors.torch", "export").save_file
    names = {part: f"{part}.safetensors" for part in modules}
    for part, module in modules.items():
        save_file({k: v.contiguous() for k, v in module.state_dict().items()}, folder / names[part])
    return names
