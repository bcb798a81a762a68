"""Answers of detectors to many pictures, from several processes on this machine."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from facedeploy.benchmarks.accuracy.evaluated_pipeline import EvaluatedPipeline, look
from facedeploy.core.errors import FacedeployError
from facedeploy.metrics.labelled_images import Detections
from facedeploy.pipelines.base import Pipeline

T = TypeVar("T")

Asked = tuple[str, Path]
Answered = tuple[str, Detections]

_AHEAD = 4  # Pictures per process that are handed out before their turn.


class Pool:
    """`processes` that answer for one detector after the other; they start with the first picture."""

    def __init__(self, processes: int) -> None:
        self.processes = processes
        self._executor: ProcessPoolExecutor | None = None
        self._job = 0

    def answers(
        self, detector: EvaluatedPipeline, pictures: Sequence[Asked], most: int
    ) -> Generator[Answered, None, None]:
        """The faces in pictures, given as (key, file), as they are found, from at most `most` processes; one is this.

        Raises:
            FacedeployError: the detector cannot be opened, a picture cannot be read, or a process died.
        """
        if min(self.processes, most, len(pictures)) <= 1:
            yield from _alone(detector, pictures)
            return
        self._job += 1
        job, pool = self._job, self._start()

        def submit(asked: Asked) -> Future[Answered]:
            return pool.submit(_answer, job, detector, asked)

        try:
            yield from windowed(submit, pictures, min(self.processes, most) * _AHEAD)
        except BrokenProcessPool as error:
            msg = (
                "a process died, maybe for want of memory: run it again, and it goes on where it stopped; "
                "with fewer processes it needs less"
            )
            raise FacedeployError(msg) from error

    def _start(self) -> ProcessPoolExecutor:
        if self._executor is None:
            # A forked process may inherit a lock that a thread of a backend holds, and hang.
            context = multiprocessing.get_context("spawn")
            self._executor = ProcessPoolExecutor(self.processes, context, _prepare)
        return self._executor

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)


def windowed(
    submit: Callable[[T], Future[Answered]], items: Iterable[T], width: int
) -> Generator[Answered, None, None]:
    """Results as they come, with at most `width` under way. What has not begun is not begun after an error."""
    rest = iter(items)
    running = {submit(item) for item in islice(rest, width)}
    try:
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            running |= {submit(item) for item in islice(rest, len(done))}
            for future in done:
                yield future.result()
    finally:
        for future in running:
            future.cancel()


def _alone(detector: EvaluatedPipeline, pictures: Sequence[Asked]) -> Generator[Answered, None, None]:
    if not pictures:
        return
    with detector.open() as pipeline:
        for key, path in pictures:
            yield key, look(pipeline, path, detector.details)


# What a process of the pool has open, and for which job.
_opened: tuple[int, Pipeline] | None = None


def _prepare() -> None:
    import cv2

    cv2.setNumThreads(1)


def _answer(job: int, detector: EvaluatedPipeline, asked: Asked) -> Answered:
    """In a process of the pool, which opens the detector with its first picture: an error then finds its way back."""
    global _opened
    if _opened is None or _opened[0] != job:
        if _opened is not None:
            _opened[1].close()
            _opened = None
        _opened = job, detector.open()
    key, path = asked
    return key, look(_opened[1], path, detector.details)
