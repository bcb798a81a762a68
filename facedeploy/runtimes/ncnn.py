"""ncnn on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from facedeploy.core.errors import ConversionError, FacedeployError
from facedeploy.core.network_spec import NetworkSpec
from facedeploy.core.optional_imports import ncnn
from facedeploy.core.target import Precision
from facedeploy.formats.ncnn.shared_weights import unshared
from facedeploy.runtimes.base import Array, Arrays, Runtime, RuntimeOptions


def ncnn_options(precision: Precision) -> dict[str, bool]:
    """The fields of ncnn's Option that change the arithmetic, for an app that loads the files itself.

    All are set, because ncnn's defaults differ between releases and processors. Winograd stays on for the float32
    layers of an int8 network: its int8 layers carry a mask against it, see `export.ncnn.int8`.
    """
    half = precision == "fp16"
    return {
        "use_vulkan_compute": False,
        "use_fp16_packed": half,
        "use_fp16_storage": half,
        "use_fp16_arithmetic": half,
        "use_bf16_packed": False,
        "use_bf16_storage": False,
        "use_int8_inference": precision == "int8",
        "use_packing_layout": True,
        "use_winograd_convolution": True,
        "use_sgemm_convolution": True,
    }


# Layers that only read what they are given. A layer that works in place writes into memory that is not its own and,
# if that is numpy's, crashes.
_READERS = frozenset({"Convolution", "ConvolutionDepthWise"})


class NcnnRuntime(Runtime):
    """A network is read-only after loading and every call has its own extractor, so threads may share it."""

    backend = "ncnn"
    concurrent = True

    def __init__(
        self,
        param: Path,
        weights: Path,
        precision: Precision,
        spec: NetworkSpec,
        options: RuntimeOptions,
    ) -> None:
        super().__init__(spec, options)
        self._net: Any = ncnn.Net()
        self._mat = ncnn.Mat
        settings = {"num_threads": options.threads, **ncnn_options(precision)}
        for name, value in settings.items():
            if hasattr(self._net.opt, name):
                setattr(self._net.opt, name, value)
        self._precision = precision
        with unshared(param, weights) as files:
            # load_param answers 0 for a graph whose layers it does not know, so the layers are looked at too.
            loaded = self._net.load_param(str(files[0])) == 0 and self._net.load_model(str(files[1])) == 0
        names = (list(self._net.input_names()), list(self._net.output_names())) if loaded else ([], [])
        wanted = ([t.name for t in spec.inputs], [t.name for t in spec.outputs])
        if not loaded or sorted(names[0]) != sorted(wanted[0]) or not set(wanted[1]) <= set(names[1]):
            msg = f"ncnn does not load {param}: it has inputs {names[0]} and outputs {names[1]}, not {wanted}"
            raise ConversionError(msg)
        layers = self._net.layers()
        readers = [layers[b.consumer].type for b in self._net.blobs() if b.name in wanted[0]]
        self._lends = all(reader in _READERS for reader in readers)

    def _run(self, inputs: Mapping[str, Array]) -> Arrays:
        batch = next(iter(inputs.values())).shape[0]
        with self._net.create_extractor() as extractor:
            for name, array in inputs.items():
                self._checked(extractor.input(name, self._to_mat(array)), name)
            return {t.name: _shaped(self._extract(extractor, t.name, batch), t.shape) for t in self.spec.outputs}

    def _to_mat(self, array: Array) -> Any:
        mat = self._mat(array[0]) if array.shape[0] == 1 else self._mat(array, batch_index=0)
        # ncnn's channels begin at multiples of 16 bytes and some of its layers rely on that; a copy has them there.
        aligned = array.ndim < 4 or array[0, 0].nbytes % 16 == 0
        return mat if aligned and self._lends else mat.clone()

    def _extract(self, extractor: Any, name: str, batch: int) -> Array:
        status, mat = extractor.extract(name)
        self._checked(status, name)
        view = mat.numpy()[None] if batch == 1 else mat.numpy(batch_index=0)
        return np.array(view, dtype=np.float32)  # The Mat's memory goes with the extractor.

    def _checked(self, status: int, name: str) -> None:
        if status != 0:
            msg = f"ncnn stops at {name} of {self.spec.name} with status {status}"
            raise FacedeployError(msg)

    def _close(self) -> None:
        self._net.clear()

    def describe(self) -> dict[str, Any]:
        return {
            **super().describe(),
            "version": ncnn.__version__,
            "precision": self._precision,
        }


def _shaped(array: Array, shape: tuple[int | str, ...]) -> Array:
    """An output as the spec has it, where only axes of one differ: ncnn knows no batch, and no tensor without axes."""
    known = tuple(d for d in shape if isinstance(d, int))
    same = len(known) == len(shape) and [d for d in known if d != 1] == [d for d in array.shape if d != 1]
    return array.reshape(known) if same else array
