"""How large a model is."""

from __future__ import annotations

from dataclasses import dataclass

from facedeploy.core.network_spec import Shape
from facedeploy.core.optional_imports import require
from facedeploy.models.model import Model


@dataclass(frozen=True)
class NetworkStatistics:
    """How large a network is, as it is exported.

    Attributes:
        network: Its name.
        parameters: Weights and biases.
        size: Bytes of those in float32.
        shape: Of its first input.
        macs: Multiply-accumulates of convolutions and linear layers for one input of `shape`; the batch is 1 where it
            is dynamic.
    """

    network: str
    parameters: int
    size: int
    shape: Shape
    macs: int


def measure(model: Model) -> tuple[NetworkStatistics, ...]:
    """Count each network, with dynamic axes at their optimum.

    Raises:
        BackendUnavailableError: PyTorch is not installed.
    """
    require("torch", "export")
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):  # Shapes without numbers: a large model need not be made.
        modules = model.fold(model.networks(model.build()))
    rows = []
    for spec in model.network_specs():
        module = modules[spec.name]
        shapes = [(1, *s[1:]) for s in spec.input_shapes("optimum").values()]
        counter = FlopCounterMode(display=False)
        with torch.no_grad(), counter:
            module(*(torch.empty(s, device="meta") for s in shapes))
        parameters = sum(p.numel() for p in module.parameters())
        rows.append(NetworkStatistics(spec.name, parameters, 4 * parameters, shapes[0], counter.get_total_flops() // 2))
    return tuple(rows)
