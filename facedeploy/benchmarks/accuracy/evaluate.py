"""How good artifacts are on labelled data sets, with intervals, and whether one is worse than another."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from facedeploy.artifact.folder import Artifact
from facedeploy.benchmarks.accuracy import cluster, workers
from facedeploy.benchmarks.accuracy.answer_cache import Store
from facedeploy.benchmarks.accuracy.datasets import Dataset
from facedeploy.benchmarks.accuracy.evaluated_pipeline import EvaluatedPipeline, make_detector
from facedeploy.benchmarks.accuracy.scores import scores
from facedeploy.benchmarks.accuracy.tasks import Answers, Measure
from facedeploy.benchmarks.record import Score, numbered
from facedeploy.core.errors import InputError
from facedeploy.core.hashing import sha256
from facedeploy.core.paths import StrPath, as_paths
from facedeploy.metrics.face_loss import threshold_of
from facedeploy.metrics.labelled_images import Detections, LabelledImage, check_size
from facedeploy.runtimes import Substitute
from facedeploy.runtimes.base import available_cores
from facedeploy.sources.open import reopen

# From a detector and pictures, as (digest, file), to what it finds in each, in any order.
Ask = Callable[[EvaluatedPipeline, Sequence[workers.Asked]], Generator[workers.Answered, None, None]]


@dataclass(frozen=True, eq=False)
class _Job:
    """A detector, and the data sets whose pictures it is to look at."""

    key: str
    detector: EvaluatedPipeline
    sets: list[Dataset]


@dataclass(frozen=True, eq=False)
class _Cell:
    """One artifact on one data set.

    Attributes:
        job: The artifact's work.
        truth: PyTorch's work in its stead, whose faces are the truth; None where there are labels.
        threshold: Score from which the faces of the truth count, 0..1.
    """

    job: _Job
    truth: _Job | None
    threshold: float


def evaluate(
    artifacts: StrPath | Sequence[StrPath],
    datasets: Sequence[Dataset],
    *,
    processes: int = 0,
    work: StrPath | None = None,
    ray: str | None = None,
    runtime: Substitute | None = None,
    options: Mapping[str, Any] | None = None,
    limit: int | None = None,
) -> tuple[Score, ...]:
    """Measure every artifact on every data set; the first artifact is what the others are compared with.

    Args:
        artifacts: folders that `export` wrote.
        datasets: from `parse_dataset`.
        processes: that detect at once, each on one thread; 0 for every core, but one where the device is a GPU. The
            numbers do not depend on it.
        work: folder for answers; what is in it is not computed again. Without it nothing is kept.
        ray: address of a Ray cluster to detect on, or "local"; `processes` are then workers of it.
        runtime: as in `load`.
        options: changes to the pipelines.
        limit: at most so many pictures of each data set, evenly spread.

    Returns:
        Scores by data set, measure and artifact.

    Raises:
        FacedeployError: something that was named cannot be used; or the run was cut short, and can go on from `work`.
    """
    paths = as_paths(artifacts)
    if not paths or not datasets or processes < 0:
        msg = "give at least one artifact and one data set, and no negative number of processes"
        raise InputError(msg)
    sets = [d.limited(limit) for d in datasets]
    jobs: dict[str, _Job] = {}
    plan = [[_plan(a, d, options or {}, runtime, jobs) for a in paths] for d in sets]
    digests = {path: sha256(path) for path in dict.fromkeys(p.path for d in sets for p in d.pictures)}
    with contextlib.ExitStack() as stack:
        folder = Path(work or stack.enter_context(tempfile.TemporaryDirectory()))
        ask = _asker(stack, processes, ray)
        found = {key: _run(job, digests, folder, ask) for key, job in jobs.items()}
    names = numbered(a.resolve().name for a in paths)
    rows: list[Score] = []
    for dataset, cells in zip(sets, plan, strict=True):
        columns = [(n, _measures(dataset, c, found, digests)) for n, c in zip(names, cells, strict=True)]
        name = dataset.name if [d.name for d in sets].count(dataset.name) == 1 else dataset.text
        mine = list(scores(name, len(dataset.pictures), columns))
        if not mine:
            count = len(dataset.pictures)
            msg = f"nothing can be measured on {dataset.text}: none of its {count} pictures has a face that counts"
            raise InputError(msg)
        rows += mine
    return tuple(rows)


def _plan(
    path: Path, dataset: Dataset, options: Mapping[str, Any], runtime: Substitute | None, jobs: dict[str, _Job]
) -> _Cell:
    """Find out what is to be done, before any of it is; jobs that are alike are one."""
    detector, usual = make_detector(path, dataset.task, options, runtime)
    truth = None
    if (reference := dataset.task.reference) is not None:
        reopen(Artifact.open(path), reference.weights, reference.factory)  # Or it says now what is missing.
        truth = _job(replace(detector, runtime=None, reference=reference), dataset, jobs)
    return _Cell(_job(detector, dataset, jobs), truth, threshold_of(usual))


def _job(detector: EvaluatedPipeline, dataset: Dataset, jobs: dict[str, _Job]) -> _Job:
    key = detector.key()
    job = jobs.setdefault(key, _Job(key, detector, []))
    if dataset not in job.sets:
        job.sets.append(dataset)
    return job


def _asker(stack: contextlib.ExitStack, processes: int, address: str | None) -> Ask:
    if address is not None:
        engine = stack.enter_context(cluster.connected(address))
        return lambda detector, asked: cluster.answers(engine, detector, asked, processes)
    pool = stack.enter_context(workers.Pool(processes or available_cores()))
    return lambda detector, asked: pool.answers(detector, asked, processes or _most(detector))


def _most(detector: EvaluatedPipeline) -> int:
    """A GPU is one device: several processes would wait for each other, and each needs its memory."""
    target = Artifact.open(detector.artifact).manifest.target
    alone = target.backend == "trt" and detector.runtime is None and detector.reference is None
    return 1 if alone else available_cores()


def _run(job: _Job, digests: Mapping[Path, str], folder: Path, ask: Ask) -> dict[str, Detections]:
    """What a detector finds in each picture, by digest: from the store, or computed and stored."""
    from tqdm import tqdm

    wanted: dict[str, list[tuple[Dataset, LabelledImage]]] = {}
    for dataset in job.sets:
        for picture in dataset.pictures:
            wanted.setdefault(digests[picture.path], []).append((dataset, picture))
    with Store(folder, job.detector.name, job.key) as store:
        known = [digest for digest in wanted if digest in store.found]
        todo = [(digest, labelled[0][1].path) for digest, labelled in wanted.items() if digest not in store.found]
        title = f"{job.detector.name} {', '.join(d.name for d in job.sets)}"
        with tqdm(total=len(wanted), initial=len(known), desc=title, unit="picture", disable=None) as bar:
            for digest in known:
                _check(store.found[digest], wanted[digest])
            with contextlib.closing(ask(job.detector, todo)) as answers:
                for digest, answer in answers:
                    store.add(digest, answer)
                    _check(answer, wanted[digest])
                    bar.update()
        return {digest: store.found[digest] for digest in wanted}


def _check(answer: Detections, labelled: Sequence[tuple[Dataset, LabelledImage]]) -> None:
    """Labels that cannot be of the picture end the run as soon as its size is known."""
    for dataset, picture in labelled:
        if dataset.task.strict:
            check_size(picture, answer, dataset.path)


def _measures(
    dataset: Dataset, cell: _Cell, found: Mapping[str, Mapping[str, Detections]], digests: Mapping[Path, str]
) -> list[Measure]:
    mine, truth = (
        [] if job is None else [found[job.key][digests[p.path]] for p in dataset.pictures]
        for job in (cell.job, cell.truth)
    )
    try:
        return dataset.task.measures(dataset.pictures, Answers(mine, truth, cell.threshold))
    except InputError as error:
        msg = f"{cell.job.detector.name} on {dataset.text}: {error}"
        raise InputError(msg) from error
