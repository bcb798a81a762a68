"""A model's networks as the C++ library has them. Field by field the struct of network.hpp."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from facedeploy.artifact.chain import DETECTOR, FAMILY
from facedeploy.artifact.manifest import Manifest, NetworkEntry, PipelineEntry
from facedeploy.core.errors import InputError
from facedeploy.core.serialization import from_plain
from facedeploy.pipelines.crop import CropConfig
from facedeploy.pipelines.crop_settings import Meaning

# What an output of the family `boxes` can be, in the order of network.hpp.
ROLES = ("boxes", "scores", "landmarks", "yaw", "pitch", "roll")
# The fields of NcnnOptions in network.hpp, in its order.
OPTIONS = (
    "use_vulkan_compute",
    "use_fp16_packed",
    "use_fp16_storage",
    "use_fp16_arithmetic",
    "use_bf16_packed",
    "use_bf16_storage",
    "use_int8_inference",
    "use_packing_layout",
    "use_winograd_convolution",
    "use_sgemm_convolution",
)


@dataclass(frozen=True)
class Network:
    """A network as the C++ library has it.

    Attributes:
        name: As the model calls it.
        param: Name of ncnn's .param file.
        bin: Name of ncnn's .bin file.
        inputs: Names of the input blobs.
        outputs: Names of the output blobs. In the families `boxes` and `crop` a role that the network does not have is
            None.
        options: All of `OPTIONS`.
    """

    name: str
    param: str
    bin: str
    inputs: tuple[str, ...]
    outputs: tuple[str | None, ...]
    options: Mapping[str, bool]


def networks(manifest: Manifest) -> tuple[Network, ...]:
    """Those of an ncnn artifact; of a chain those of all parts, whose files lie in the folders of their parts.

    Raises:
        InputError: the manifest sets other options of ncnn than the C++ library knows.
    """
    return tuple(_network(entry, own) for entry, all_of_it in parts(manifest) for own in all_of_it)


def parts(manifest: Manifest) -> tuple[tuple[PipelineEntry, tuple[NetworkEntry, ...]], ...]:
    """Pipeline and networks of each part of a chain, the detector first; of another artifact, of it alone."""
    whole = manifest.pipeline
    if whole.family != FAMILY:
        return ((whole, manifest.networks),)
    plain = {DETECTOR: whole.config["detector"], **whole.config["lookers"]}
    return tuple(
        (
            from_plain(PipelineEntry, entry),
            tuple(n for n in manifest.networks if n.spec.name.rpartition("/")[0] == name),
        )
        for name, entry in plain.items()
    )


def _network(pipeline: PipelineEntry, entry: NetworkEntry) -> Network:
    if unknown := sorted(set(entry.options) - set(OPTIONS)):
        msg = f"the C++ library does not know ncnn's option {unknown[0]}: update facedeploy, or export again with it"
        raise InputError(msg)
    # With ncnn's own defaults an int8 network would give other numbers, or none.
    if missing := [name for name in OPTIONS if name not in entry.options]:
        msg = f"the manifest does not say what ncnn's option {missing[0]} is, as old ones do not: export again"
        raise InputError(msg)
    return Network(
        entry.spec.name,
        entry.files["param"].path,
        entry.files["bin"].path,
        tuple(t.name for t in entry.spec.inputs),
        _outputs(pipeline, entry),
        {name: bool(entry.options[name]) for name in OPTIONS},
    )


def _outputs(pipeline: PipelineEntry, entry: NetworkEntry) -> tuple[str | None, ...]:
    if pipeline.family == "boxes":
        named = pipeline.config["outputs"]
        return tuple(named.get(role) for role in ROLES)
    if pipeline.family == "crop":
        return _of_crop(from_plain(CropConfig, pipeline.config).meaning.resolved(entry.spec))
    return tuple(t.name for t in entry.spec.outputs)


def _of_crop(meaning: Meaning) -> tuple[str | None, ...]:
    pose = () if meaning.pose is None else meaning.pose.outputs
    return (
        None if meaning.points is None else meaning.points.output,
        *pose,
        *[None] * (3 - len(pose)),
        None if meaning.embedding is None else meaning.embedding.output,
        None if meaning.classes is None else meaning.classes.output,
    )
