"""The table of ranges: what one calibration leaves behind, and all that any backend needs to quantise a model.

Layers are named by their weights, as in the checkpoint (`mos.fine.1.conv.0.weight`), because those names outlive
exporters; the range of a layer is that of the values it reads.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from facedeploy.artifact.loss import Loss
from facedeploy.core.errors import InputError
from facedeploy.core.serialization import Document, read_document, write_json
from facedeploy.graph.ranges import Range

Method = Literal["minmax", "percentile", "kl", "mse"]

FORMAT = "facedeploy-ranges"
VERSION = 1


@dataclass(frozen=True)
class RangeTable:
    """The table of ranges.

    Attributes:
        model: Id of the model.
        source: Part of the checkpoint -> SHA-256 of its file.
        method: How clips were chosen.
        pictures: How many pictures it was made from.
        digest: SHA-256 over the pictures' bytes, in the order of their names.
        networks: Network -> layer -> range.
        tools: Package -> version, of what calibrated.
        loss: What all allowed layers in int8 cost on held-back pictures; None where that was not measured.
        held_back: How many pictures that were.
        format: Of the file.
        version: Of the format.
    """

    model: str
    source: dict[str, str]
    method: Method
    pictures: int
    digest: str
    networks: dict[str, dict[str, Range]]
    tools: dict[str, str] = field(default_factory=dict)
    loss: Loss | None = None
    held_back: int = 0
    format: str = FORMAT
    version: int = VERSION


_DOCUMENT = Document(
    RangeTable,
    "table of ranges",
    VERSION,
    advice="write one with facedeploy calibrate",
    limit=16 << 20,  # A table is some kilobytes.
    format=FORMAT,
)


def write_table(table: RangeTable, path: str | os.PathLike[str]) -> None:
    """Write the table as JSON, in one step; a file that is there is replaced."""
    write_json(table, Path(path))


def read_table(path: str | os.PathLike[str]) -> RangeTable:
    """Read a table.

    Raises:
        InputError: no such file, or not a table that this release reads.
    """
    return read_document(_DOCUMENT, Path(path))


def range_of(table: RangeTable, network: str, layer: str) -> Range:
    """What a layer reads.

    Raises:
        InputError: the table does not say.
    """
    values = table.networks.get(network, {}).get(layer)
    if values is None:
        msg = f"the table of ranges has no layer {layer} in {network}: it was made for another model; calibrate again"
        raise InputError(msg)
    return values


def check_table(table: RangeTable, model: str, source: Mapping[str, str]) -> None:
    """Check that a table was made for this model and these weights: part of the checkpoint -> SHA-256.

    Raises:
        InputError: it was not.
    """
    if table.model != model:
        msg = f"the table of ranges is for {table.model}, not for {model}: calibrate again"
        raise InputError(msg)
    if table.source != dict(source):
        msg = f"the table of ranges was made with other weights of {model} than these: calibrate again"
        raise InputError(msg)
