"""All cells of a matrix to records and a report. A run that was stopped goes on where it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from facedeploy.artifact.folder import MANIFEST
from facedeploy.benchmarks.accuracy.cluster import check_reachable
from facedeploy.benchmarks.accuracy.datasets import parse_dataset
from facedeploy.benchmarks.accuracy.evaluate import evaluate
from facedeploy.benchmarks.latency.benchmark import benchmark
from facedeploy.benchmarks.matrix.cells import Made, is_exported, make
from facedeploy.benchmarks.matrix.plan import Cell, Plan
from facedeploy.benchmarks.record import Record
from facedeploy.benchmarks.record_file import read_record, write_record
from facedeploy.benchmarks.report import check_report_folder, write_report
from facedeploy.core.errors import BackendUnavailableError, InputError
from facedeploy.core.hashing import code_digest, sha256
from facedeploy.core.images import expand
from facedeploy.core.paths import StrPath
from facedeploy.core.progress import Progress
from facedeploy.core.serialization import to_plain
from facedeploy.machine.linux import read_machine
from facedeploy.runtimes.doctor import diagnose


@dataclass(frozen=True)
class Matrix:
    """What a matrix left behind.

    Attributes:
        cells: What became of each cell.
        records: One for each model and size of which an artifact was made.
        report: The report's folder.
    """

    cells: tuple[Made, ...]
    records: tuple[Record, ...]
    report: Path

    @property
    def problems(self) -> tuple[str, ...]:
        """A sentence for each cell that was refused, or is not what it was made from."""
        refused = [f"{c.name} was refused: {c.refused}" for c in self.cells if c.refused]
        return (*refused, *(f"{c.name}: {problem}" for c in self.cells for problem in c.problems))


def run(plan: Plan, folder: StrPath, *, processes: int = 0, ray: str | None = None, progress: Progress) -> Matrix:
    """Export, verify and measure, and write the report.

    Args:
        plan: What to measure.
        folder: Where everything is kept; the report is in `folder`/report.
        processes: How many compute accuracy at once, as in `evaluate`. Latency is always measured here.
        ray: Address of a Ray cluster for accuracy, or "local"; None for this machine.
        progress: Called with the name of each step.

    Returns:
        The cells, the records and the report.

    Raises:
        InputError, CheckpointError, BackendUnavailableError: the matrix asks for what cannot be done.
    """
    folder = Path(folder)
    check_report_folder(folder / "report")
    if ray is not None and plan.datasets:
        check_reachable(ray)
    _check_exporters([c for c in plan.cells if not is_exported(c, folder / "cells")])
    images = expand(plan.images)
    datasets = [parse_dataset(text) for text in plan.datasets]
    made = [make(c, images, folder / "cells", runtime=plan.runtime, progress=progress) for c in plan.cells]
    records = []
    for group in dict.fromkeys(cell.group for cell in plan.cells):
        mine = [(c, m.path) for c, m in zip(plan.cells, made, strict=True) if c.group == group and m.path is not None]
        if not mine:
            continue
        artifacts = [path for _, path in mine]
        record = _measure(plan, mine, images, folder / "records", progress)
        if datasets:
            progress(f"accuracy of {group}")
            scores = evaluate(
                artifacts,
                datasets,
                processes=processes,
                work=folder / "detections",
                ray=ray,
                runtime=plan.runtime,
                options=mine[0][0].options,
            )
            record = replace(record, scores=scores)
        records.append(record)
    if not records:
        msg = f"no cell could be made; the first was refused because {made[0].refused}"
        raise InputError(msg)
    matrix = Matrix(tuple(made), tuple(records), folder / "report")
    pictures = {f.name: f for f in images}
    write_report(records, matrix.report, title=plan.title, images=pictures, notes=matrix.problems)
    return matrix


def _check_exporters(cells: Sequence[Cell]) -> None:
    """The last cell may be hours away."""
    able = {status.backend: status for status in diagnose()} if cells else {}
    for cell in cells:
        if not (status := able[cell.target.backend]).export:
            msg = f"{cell.name} cannot be exported here: {status.note}"
            raise BackendUnavailableError(msg)


def _measure(
    plan: Plan, cells: Sequence[tuple[Cell, Path]], images: Sequence[Path], folder: Path, progress: Progress
) -> Record:
    """Measure artifacts in turns, or take the record that an earlier run left of the same ones on this machine."""
    group, artifacts = cells[0][0].group, [path for _, path in cells]
    contents = {
        "artifacts": [sha256(path / MANIFEST) for path in artifacts],
        "images": [sha256(f) for f in images],
        "how": [plan.threads, plan.streams, plan.seconds, plan.max_drop, plan.vendors, plan.runtime],
        "machine": to_plain(read_machine()),
        "code": code_digest(without=("benchmarks/accuracy", "benchmarks/matrix", "benchmarks/report", "cli")),
    }
    key = hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()[:12]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{group.replace('/', '_')}-{key}.json"
    if path.exists():
        return read_record(path)
    progress(f"measure {group}: {', '.join(str(cell.target) for cell, _ in cells)}")
    record = benchmark(
        artifacts,
        images,
        threads=plan.threads,
        streams=plan.streams,
        seconds=plan.seconds,
        runtime=plan.runtime,
        options=cells[0][0].options,
        max_drop=plan.max_drop,
        vendors=plan.vendors,
        layers=True,
    )
    write_record(record, path)
    return record
