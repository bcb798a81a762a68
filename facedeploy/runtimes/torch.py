"""PyTorch: the reference that every other runtime is held against."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from facedeploy.core.network_spec import NetworkSpec
from facedeploy.core.optional_imports import require
from facedeploy.runtimes.base import Array, Arrays, Runtime, RuntimeOptions

if TYPE_CHECKING:
    from torch import nn


class TorchRuntime(Runtime):
    """A module in eval mode. Calls may come from several threads; the thread count is the whole process's."""

    backend = "torch"
    concurrent = True

    def __init__(self, module: nn.Module, spec: NetworkSpec, options: RuntimeOptions) -> None:
        super().__init__(spec, options)
        self._torch = require("torch", "export")
        self._module = module.eval()

    def _run(self, inputs: Mapping[str, Array]) -> Arrays:
        torch = self._torch
        # Another runtime of this process may have asked for another count in between.
        if torch.get_num_threads() != self.options.threads:
            torch.set_num_threads(self.options.threads)
        with torch.inference_mode():
            outputs = self._module(*(torch.from_numpy(_writable(inputs[t.name])) for t in self.spec.inputs))
        return {t.name: o.numpy() for t, o in zip(self.spec.outputs, outputs, strict=True)}

    def _close(self) -> None:
        del self._module

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "version": self._torch.__version__, "precision": "fp32"}


def _writable(array: Array) -> Array:
    # PyTorch warns of memory that it may not write, although it only reads.
    return array if array.flags.writeable else array.copy()
