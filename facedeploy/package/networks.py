"""A model's networks as the C++ library has them. Field by field the struct of network.hpp."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from facedeploy.artifact.manifest import Manifest, NetworkEntry
from facedeploy.core.errors import InputError

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
        outputs: Names of the output blobs. In the family `boxes` a role that the network does not have is None.
        options: All of `OPTIONS`.
    """

    name: str
    param: str
    bin: str
    inputs: tuple[str, ...]
    outputs: tuple[str | None, ...]
    options: Mapping[str, bool]


def networks(manifest: Manifest) -> tuple[Network, ...]:
    """Those of an ncnn artifact.

    Raises:
        InputError: the manifest sets other options of ncnn than the C++ library knows.
    """
    named = manifest.pipeline.config["outputs"] if manifest.pipeline.family == "boxes" else None
    return tuple(_network(entry, named) for entry in manifest.networks)


def _network(entry: NetworkEntry, named: Mapping[str, str | None] | None) -> Network:
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
        tuple(t.name for t in entry.spec.outputs) if named is None else tuple(named.get(role) for role in ROLES),
        {name: bool(entry.options[name]) for name in OPTIONS},
    )
