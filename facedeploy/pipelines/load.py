"""From an artifact to a pipeline that runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from facedeploy import pipelines
from facedeploy.artifact.folder import Artifact
from facedeploy.artifact.given import AnyArtifact, open_artifact, open_artifacts
from facedeploy.artifact.manifest import Manifest, NetworkEntry
from facedeploy.core.errors import ArtifactError
from facedeploy.core.network_spec import InputSize, NetworkSpec
from facedeploy.core.target import Backend
from facedeploy.models import registry
from facedeploy.models.model import Model
from facedeploy.pipelines.base import Pipeline
from facedeploy.pipelines.custom import BATCH, NETWORK
from facedeploy.pipelines.together import check, together
from facedeploy.runtimes import Substitute, open_network
from facedeploy.runtimes.base import Opener, Runtime, RuntimeOptions
from facedeploy.runtimes.wrapped import Wrap

OWN_FAMILIES = ("boxes", "tensors", "crop")
# What a network of each backend must have; TensorRT's engine may still be to be built.
_ROLES: dict[Backend, set[str]] = {
    "onnx": {"onnx"},
    "openvino": {"xml", "bin"},
    "ncnn": {"param", "bin"},
    "trt": {"onnx"},
}


def load(
    artifact: AnyArtifact,
    *,
    threads: int = 0,
    runtime: Substitute | None = None,
    options: Mapping[str, Any] | None = None,
    wrap: Wrap | None = None,
    with_: AnyArtifact | Sequence[AnyArtifact] = (),
) -> Pipeline:
    """Open an artifact: `with load("mtcnn-openvino-fp32") as pipeline: pipeline.detect(image)`.

    Args:
        artifact: The folder that `export` wrote, which is checked first, or an artifact that is open already.
        threads: CPU threads per network; 0 for every core of this process.
        runtime: "onnxruntime" runs the ONNX file of a `trt` artifact where there is no GPU.
        options: Changes to the pipeline's configuration, such as {"min_face": 20}.
        wrap: Makes of each network's runtime the one that the pipeline is given, to watch it.
        with_: Artifacts that look at the faces that this one finds: landmarks, pose, embedding, classes. `runtime`
            applies to those that hold an ONNX file, `options` to none of them.

    Returns:
        The pipeline over the artifact's networks. Close it, or use it as a context manager.

    Raises:
        ArtifactError: the artifact is damaged, contradicts itself, or its engine is still to be built.
        BackendUnavailableError: the backend is not installed, or this machine cannot run it.
        InputError: an option is unknown or wrong, there is no ONNX file for `runtime`, or an artifact of `with_` cannot
            look at the faces of this one.
    """
    opened = open_artifact(artifact)
    if lookers := open_artifacts(with_):
        opened = together(opened, lookers)
    entry = pipelines.reconfigure(opened.manifest.pipeline, options)
    check_manifest(opened)

    def opener(part: Artifact, network: NetworkEntry) -> Opener:
        def opens(settings: RuntimeOptions) -> Runtime:
            made = open_compiled(part, network, settings, substitute_for(opened, part, runtime))
            return made if wrap is None else wrap(made)

        return opens

    return pipelines.open_pipeline(entry, {n: opener(part, own) for n, part, own in opened.compiled()}, threads)


def open_compiled(
    artifact: Artifact, network: NetworkEntry, options: RuntimeOptions, substitute: Substitute | None = None
) -> Runtime:
    """The runtime of a network of an artifact that is no chain. Raises as `runtimes.open_network` does."""
    manifest = artifact.manifest
    return open_network(manifest.model, manifest.target, network, artifact.path, options, substitute)


def substitute_for(whole: Artifact, part: Artifact, runtime: Substitute | None) -> Substitute | None:
    """What stands in for a part's backend: for a looker, where it can."""
    looker = bool(whole.parts) and pipelines.looks(part.manifest.pipeline)
    return None if looker and not all("onnx" in n.files for n in part.manifest.networks) else runtime


def check_manifest(artifact: Artifact) -> None:
    """Check that a manifest describes the networks of its model, with the files and sources that they need.

    The model of an own network is only a name: what such a manifest may say is checked by itself.

    Raises:
        ArtifactError: it does not.
        InputError: this release does not have the model.
    """
    if artifact.parts:
        check(artifact.parts)
        for part in artifact.parts.values():
            check_manifest(part)
        return
    manifest = artifact.manifest
    parts: tuple[str, ...] = ()
    if manifest.origin == "registry":
        known = registry.get(manifest.model)
        parts = known.checkpoint_parts
        problems = _problems(known, manifest)
    else:
        problems = _own_problems(manifest)
    for network in manifest.networks:
        missing = _ROLES.get(manifest.target.backend, set(parts)) - set(network.files)
        if network.engine == "ready" and "engine" not in network.files:
            missing.add("engine")
        if missing:
            problems.append(f"{network.spec.name} lacks the file {', '.join(sorted(missing))}")
    if problems:
        msg = f"{artifact.path}: the manifest contradicts itself ({'; '.join(problems)}); export the artifact again"
        raise ArtifactError(msg)


def _problems(known: Model, manifest: Manifest) -> list[str]:
    problems = []
    if not _fits(known, manifest):
        problems.append(f"its networks are not those of {manifest.model}")
    if [s.part for s in manifest.source] != [*known.source_parts]:
        problems.append("its sources do not name each part of the checkpoint once")
    return problems


def _own_problems(manifest: Manifest) -> list[str]:
    problems = []
    specs = [n.spec for n in manifest.networks]
    image = [t.shape for s in specs for t in s.inputs]
    crop = manifest.pipeline.family == "crop"
    axes = {(a.name,) for s in specs for a in s.axes}
    if [s.name for s in specs] != [NETWORK] or len(image) != 1 or any(not s.outputs for s in specs):
        problems.append("it is not one network with one input")
    # All faces of a picture may be one batch.
    batch: int | str = BATCH if crop and axes else 1
    if axes not in (set(), {(BATCH,)} if crop else set()):
        problems.append("its axes are not those of an own network")
    if not all(len(s) == 4 and s[:2] == (batch, 3) and all(isinstance(d, int) and d > 0 for d in s[1:]) for s in image):
        problems.append("its input is not a picture of a fixed size")
    if manifest.pipeline.family not in OWN_FAMILIES or manifest.target.backend == "torch" or not manifest.source:
        problems.append("its target, pipeline or source is not that of an own network")
    return problems


def _fits(known: Model, manifest: Manifest) -> bool:
    """Whether the networks are the model's, for a fixed size or for any."""
    have = [_interface(n.spec) for n in manifest.networks]
    sizes: tuple[InputSize, ...] = (known.input_size, "any") if known.any_size else (known.input_size,)
    return any(have == [_interface(s) for s in known.network_specs(size)] for size in sizes)


def _interface(spec: NetworkSpec) -> tuple[object, ...]:
    """What a network of a model always has, whatever sizes it was exported for."""
    tensors = [(t.name, t.dtype, tuple(d if isinstance(d, str) else 0 for d in t.shape)) for t in spec.inputs]
    outputs = [(t.name, t.dtype, len(t.shape)) for t in spec.outputs]
    return spec.name, tensors, outputs, [a.name for a in spec.axes]
