"""The faces of files, streamed, optionally drawn."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2

from facedeploy.artifact.folder import Artifact
from facedeploy.artifact.given import AnyArtifact
from facedeploy.core.errors import InputError
from facedeploy.core.face import Face
from facedeploy.core.images import PICTURES, VIDEOS, expand, frames
from facedeploy.core.paths import StrPath
from facedeploy.core.preprocess import Image
from facedeploy.pipelines.base import check_decodes
from facedeploy.pipelines.composed import ComposedPipeline
from facedeploy.pipelines.draw import draw
from facedeploy.pipelines.load import load
from facedeploy.runtimes import Substitute

_FALLBACK_RATE = 25.0  # For a video that does not say its own.


@dataclass(frozen=True)
class Detected:
    """The faces of one picture or video frame.

    Attributes:
        path: The file.
        frame: Number of a video's frame, from 0; None for a picture.
        width: Of the picture, pixels.
        height: Of the picture, pixels.
        faces: Best score first.
    """

    path: Path
    frame: int | None
    width: int
    height: int
    faces: tuple[Face, ...]

    def to_dict(self) -> dict[str, Any]:
        out: dict[str, Any] = {"image": str(self.path)}
        if self.frame is not None:
            out["frame"] = self.frame
        return {
            **out,
            "width": self.width,
            "height": self.height,
            "faces": [f.to_dict() for f in self.faces],
        }


def detect_files(
    artifact: AnyArtifact,
    inputs: StrPath | Sequence[StrPath],
    *,
    threshold: float = 0.0,
    save: StrPath | None = None,
    threads: int = 0,
    runtime: Substitute | None = None,
    options: Mapping[str, Any] | None = None,
    with_: AnyArtifact | Sequence[AnyArtifact] = (),
) -> Iterator[Detected]:
    """Find the faces of files, one picture or video frame at a time.

    Args:
        artifact: The folder that `export` wrote, or an artifact that is open already.
        inputs: Pictures, folders of pictures, and videos, or one of them.
        threshold: Leaves out faces with a lower score, 0..1.
        save: Folder for copies with the faces drawn. Nothing that exists is overwritten.
        threads: CPU threads per network; 0 for every core of this process.
        runtime: "onnxruntime" runs the ONNX files of an artifact instead of what its target compiled.
        options: Changes to the configuration of the first artifact's pipeline.
        with_: Artifacts that look at the faces that were found, as of `load`.

    Yields:
        The faces of every picture and video frame, in order.

    Raises:
        InputError: an input cannot be read, a file to save exists, the artifact finds no faces, or one of `with_` does
            not look at faces that are already found.
    """
    files = expand(inputs)
    with contextlib.ExitStack() as stack:
        pipeline = load(artifact, threads=threads, runtime=runtime, options=options, with_=with_)
        stack.callback(pipeline.close)
        check_decodes(pipeline, str(artifact.path if isinstance(artifact, Artifact) else artifact))
        if isinstance(pipeline, ComposedPipeline):
            pipeline.threshold = threshold
        album = stack.enter_context(_Album(Path(save), files)) if save else None
        for frame in stack.enter_context(_progress(files)):
            faces = tuple(f for f in pipeline.detect(frame.image) if f.score >= threshold)
            if album:
                album.add(frame.path, draw(frame.image, faces))
            height, width = frame.image.shape[:2]
            yield Detected(frame.path, frame.number, width, height, faces)


class _Album:
    """Writes drawn pictures, and drawn frames as videos, under the names of their originals."""

    def __init__(self, folder: Path, files: Sequence[Path]) -> None:
        self.names = _names(folder, files)
        for target in self.names.values():
            if target.exists():
                msg = f"{target} exists: choose another folder with --save"
                raise InputError(msg)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            msg = f"cannot make the folder {folder}: {error.strerror}"
            raise InputError(msg) from error
        self.writers: dict[Path, cv2.VideoWriter] = {}

    def add(self, source: Path, image: Image) -> None:
        target = self.names[source]
        if source.suffix.lower() in VIDEOS:
            self._writer(source, image).write(image)
        elif not cv2.imwrite(str(target), image):
            msg = f"OpenCV cannot write {target}"
            raise InputError(msg)

    def _writer(self, source: Path, image: Image) -> cv2.VideoWriter:
        if source not in self.writers:
            capture = cv2.VideoCapture(str(source))
            rate = capture.get(cv2.CAP_PROP_FPS) or _FALLBACK_RATE
            capture.release()
            height, width = image.shape[:2]
            code = cv2.VideoWriter.fourcc(*"mp4v")
            self.writers[source] = cv2.VideoWriter(str(self.names[source]), code, rate, (width, height))
        return self.writers[source]

    def __enter__(self) -> _Album:
        return self

    def __exit__(self, *_: object) -> None:
        for writer in self.writers.values():
            writer.release()


def _names(folder: Path, files: Sequence[Path]) -> dict[Path, Path]:
    """A file name in `folder` for every input; of two inputs with one name the second gets `-2`."""
    names: dict[Path, Path] = {}
    taken: set[str] = set()
    for file in files:
        if file in names:
            continue
        kind = file.suffix.lower()
        suffix = ".mp4" if kind in VIDEOS else file.suffix if kind in PICTURES else ".png"
        name, count = f"{file.stem}{suffix}", 1
        while name in taken:
            count += 1
            name = f"{file.stem}-{count}{suffix}"
        taken.add(name)
        names[file] = folder / name
    return names


@contextlib.contextmanager
def _progress(files: Sequence[Path]) -> Iterator[Iterator[Any]]:
    """The frames of the files, behind a progress bar where a person watches more than one."""
    if len(files) < 2 or not sys.stderr.isatty():
        yield frames(files)
        return
    from tqdm import tqdm

    with tqdm(total=len(files), unit="file", file=sys.stderr) as bar:

        def counted() -> Iterator[Any]:
            last = None
            for frame in frames(files):
                if last not in (None, frame.path):
                    bar.update()
                last = frame.path
                yield frame
            bar.update()

        yield counted()
