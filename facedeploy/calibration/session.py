"""One calibration, from pictures to the graphs and ranges that a plan is made of: what `calibrate` and `export` share.

pictures ─► float32 graphs ─► observe ─► equalise ─► observe again ─► ranges ─► correct biases      loss: sensitivity.py
"""

from __future__ import annotations

import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from facedeploy.calibration.bias_shifts import PICTURES, corrected, show
from facedeploy.calibration.observed_graph import Graph, observe, open_graphs
from facedeploy.calibration.table import Method, RangeTable
from facedeploy.core.errors import InputError
from facedeploy.core.images import expand
from facedeploy.core.optional_imports import installed_versions
from facedeploy.core.progress import Progress, Watch, silent, unwatched
from facedeploy.graph.ranges import Ranges
from facedeploy.sources.source import Source

DEFAULT_METHOD: Method = "mse"
DEFAULT_COUNT = 300
FEWEST = 10
_HELD_BACK = 5  # Every fifth picture is not calibrated with, but judged on.
_TOOLS = ("facedeploy", "torch", "onnx", "onnxruntime")

# network -> layers to quantise, with their ranges
Plan = Mapping[str, Ranges]


@dataclass(frozen=True)
class Split:
    """Picture files of one calibration.

    Attributes:
        calibration: Those to calibrate with, sorted.
        held_back: Others, to judge on.
    """

    calibration: tuple[Path, ...]
    held_back: tuple[Path, ...]


@dataclass(frozen=True)
class Session:
    """A model that is calibrated.

    Attributes:
        source: The model.
        graphs: Network -> its float32 graph, for which the table's ranges hold.
        table: The ranges.
        held_back: Picture files to judge on.
        threads: CPU threads of whatever runs the graphs; 0 for every core.
    """

    source: Source
    graphs: Mapping[str, Graph]
    table: RangeTable
    held_back: tuple[Path, ...]
    threads: int = 0


def choose_pictures(images: Sequence[str | os.PathLike[str]], count: int = DEFAULT_COUNT, seed: int = 0) -> Split:
    """At most `count` of the pictures in files and folders: four fifths to calibrate with.

    Args:
        images: Picture files, and folders of them.
        count: How many to take at most.
        seed: Of the drawing.

    Raises:
        InputError: no picture, or too few.
    """
    files = sorted(set(expand([Path(i) for i in images])))
    if len(files) < FEWEST or count < FEWEST:
        few = min(len(files), count)
        msg = (
            f"{few} {'picture is' if few == 1 else 'pictures are'} too few to calibrate with: give at least {FEWEST}, "
            "and better 100 to 300, such as the model will see"
        )
        raise InputError(msg)
    random.Random(seed).shuffle(files)
    files = files[:count]
    held = tuple(sorted(files[::_HELD_BACK]))
    return Split(tuple(sorted(set(files) - set(held))), held)


def calibrate(
    source: Source,
    pictures: Split,
    *,
    method: Method = DEFAULT_METHOD,
    equalised: bool = True,
    threads: int = 0,
    progress: Progress = silent,
    watch: Watch = unwatched,
) -> Session:
    """Run the pipeline over the pictures to calibrate with, and choose the range of every layer's input.

    Args:
        source: The model.
        pictures: Files to calibrate with, and to judge on later.
        method: How the clips of a range are chosen.
        equalised: Whether channels of very different size are made alike, which takes a second pass.
        threads: CPU threads of each network; 0 for every core.
        progress: Told the name of each step.
        watch: Shows the progress over files.

    Raises:
        InputError: a picture cannot be read, all are blank, a value is not finite, or a network never ran.
        ConversionError: a network cannot be written as ONNX.
    """
    progress("the float32 graphs")
    graphs = open_graphs(source)
    files = pictures.calibration
    progress(f"calibrate on {len(files)} pictures")
    observed = observe(source.pipeline, graphs, watch(files, "calibrate"), threads)
    if equalised:
        graphs = {name: graph.equalised(observed.networks[name].peaks) for name, graph in graphs.items()}
    if any(graph.divided for graph in graphs.values()):
        observed = observe(source.pipeline, graphs, watch(files, "calibrate again"), threads)
    table = RangeTable(
        model=source.model,
        source=source.digests,
        method=method,
        pictures=len(files),
        digest=observed.digest,
        networks={name: observer.ranges(method) for name, observer in observed.networks.items()},
        tools=installed_versions(*_TOOLS),
    )
    progress("what int8 moves the means by")
    spread = files[:: max(1, len(files) // PICTURES)]
    shown = show(source.pipeline, graphs, spread, threads)
    networks = {name: corrected(graphs[name], ranges, shown[name], threads) for name, ranges in table.networks.items()}
    return Session(source, graphs, replace(table, networks=networks), pictures.held_back, threads)
