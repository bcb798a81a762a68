"""Ranges from a table that ncnn2table made of a converted network: its layer names, brought back to the weights'."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from facedeploy.artifact.manifest import Calibration
from facedeploy.calibration.quantize_plan import Quantisation
from facedeploy.core.errors import InputError
from facedeploy.core.hashing import sha256
from facedeploy.core.network_spec import NetworkSpec
from facedeploy.core.optional_imports import onnx
from facedeploy.export.ncnn.convert import convert
from facedeploy.export.ncnn.find_layers import find_layers
from facedeploy.export.ncnn.int8 import has_int8_form
from facedeploy.formats.ncnn import calibration_table as table
from facedeploy.graph.ranges import Range
from facedeploy.sources.source import Source


def find_tables(path: Path | None) -> dict[str, Path]:
    """Network -> its file of ncnn2table, where a path is one, `<network>.table`, or a folder of such."""
    if path is None:
        return {}
    files = [path] if path.suffix == ".table" else sorted(path.glob("*.table")) if path.is_dir() else []
    return {file.stem: file for file in files}


def read_tables(source: Source, tables: Mapping[str, Path]) -> Quantisation:
    """The layers that tables name, network by network.

    Raises:
        InputError: a file is no table, or of another network.
    """
    names = [n.spec.name for n in source.networks]
    if unknown := sorted(tables.keys() - set(names)):
        msg = f"{tables[unknown[0]]} must be named after a network of {source.model}: {', '.join(names)}"
        raise InputError(msg)
    plan = {}
    with tempfile.TemporaryDirectory() as work:
        for network in source.networks:
            if network.spec.name in tables:
                onnx = Path(work) / f"{network.spec.name}.onnx"
                network.write(onnx)
                plan[network.spec.name] = ranges_of(network.spec, onnx, tables[network.spec.name])
    return Quantisation(plan, Calibration("ncnn2table", 0, sha256(next(iter(tables.values())))))


def ranges_of(spec: NetworkSpec, onnx_path: Path, path: Path) -> dict[str, Range]:
    """Weight -> range of what its layer reads, for the layers of a table; `onnx_path` is the float32 graph.

    The table's scales of weights are not taken: they are what ncnn2table left for int8 Winograd, 6 bits of 8.

    Raises:
        InputError: not a table, or of another network.
    """
    thresholds = table.read(path).thresholds
    converted = convert(spec, onnx_path)
    able = {v.name for v in converted.layers if has_int8_form(v)}
    if unknown := sorted(thresholds.keys() - able):
        msg = f"{path} names {unknown[0]}, which is no layer of {spec.name} that can be int8: it is of another network"
        raise InputError(msg)
    found: dict[str, Range] = {}
    for weight in converted.model.graph.initializer:
        if len(weight.dims) > 1:
            for layer in find_layers(onnx.numpy_helper.to_array(weight), converted.arrays) & thresholds.keys():
                value = thresholds[layer]
                found[weight.name] = Range(-value, value, value, -value, value)
    return found
