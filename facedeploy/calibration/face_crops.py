"""What a network that looks at faces is calibrated on: the crops that a detector really gives it."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2

from facedeploy.artifact.folder import Artifact
from facedeploy.core.errors import InputError
from facedeploy.core.images import expand, read_picture
from facedeploy.core.paths import StrPath, as_paths
from facedeploy.core.progress import Progress, Watch
from facedeploy.pipelines.base import check_decodes
from facedeploy.pipelines.crop import CropPipeline
from facedeploy.pipelines.load import load
from facedeploy.sources.source import Source


@contextlib.contextmanager
def faces_of(
    source: Source,
    detector: StrPath | None,
    images: StrPath | Sequence[StrPath],
    threads: int,
    progress: Progress,
    watch: Watch,
) -> Iterator[list[Path]]:
    """Picture files to calibrate a source with: with a detector, a crop of each face that it finds in the pictures.

    The crops are those that the network sees, of its own size, so that looking at one as a whole is looking at the
    face. They are removed at the end.

    Args:
        source: The model.
        detector: Artifact that finds faces; None for the pictures as they are.
        images: Picture files and folders of them.
        threads: CPU threads of each network; 0 for every core.
        progress: Told the name of the step.
        watch: Shows the progress over files.

    Raises:
        InputError: the source does not look at faces, the other finds none, or a picture cannot be read.
    """
    if detector is None:
        yield as_paths(images)
        return
    with tempfile.TemporaryDirectory() as folder:
        with source.open(threads) as looker:
            if not isinstance(looker, CropPipeline):
                msg = f"--detector is for a network that looks at faces, and {source.model} is none: leave it out"
                raise InputError(msg)
            progress("cut out the faces")
            files = expand(images)
            made = _cut(looker, Artifact.open(detector), files, Path(folder), threads, watch)
        if not made:
            msg = f"{detector} finds no face in {len(files)} pictures: give pictures that show faces"
            raise InputError(msg)
        yield made


def _cut(
    looker: CropPipeline, detector: Artifact, files: Sequence[Path], folder: Path, threads: int, watch: Watch
) -> list[Path]:
    made = []
    with load(detector, threads=threads) as finder:
        check_decodes(finder, str(detector.path))
        for number, file in enumerate(watch(files, "find faces")):
            image = read_picture(file)
            for face, crop in enumerate(looker.crops(image, finder.detect(image))):
                made.append(folder / f"{number:06}-{face:04}.png")
                cv2.imwrite(str(made[-1]), crop)
    return made
