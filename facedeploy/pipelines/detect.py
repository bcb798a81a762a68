"""The faces of pictures, in one call."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypeGuard, cast, overload

from numpy.typing import NDArray

from facedeploy.artifact.folder import Artifact
from facedeploy.artifact.given import AnyArtifact
from facedeploy.core.errors import InputError
from facedeploy.core.face import Face
from facedeploy.core.images import read_picture
from facedeploy.core.paths import StrPath
from facedeploy.pipelines.base import Pipeline, check_decodes
from facedeploy.pipelines.composed import ComposedPipeline
from facedeploy.pipelines.load import load
from facedeploy.runtimes import Substitute

Picture: TypeAlias = NDArray[Any] | StrPath


# A `str` is a sequence of `str` to a type checker, but one path here: the first signature that fits is taken.
@overload
def detect(  # type: ignore[overload-overlap]
    source: AnyArtifact | Pipeline,
    pictures: Picture,
    *,
    threshold: float = ...,
    threads: int = ...,
    runtime: Substitute | None = ...,
    options: Mapping[str, Any] | None = ...,
    with_: AnyArtifact | Sequence[AnyArtifact] = ...,
) -> list[Face]: ...


@overload
def detect(
    source: AnyArtifact | Pipeline,
    pictures: Sequence[Picture],
    *,
    threshold: float = ...,
    threads: int = ...,
    runtime: Substitute | None = ...,
    options: Mapping[str, Any] | None = ...,
    with_: AnyArtifact | Sequence[AnyArtifact] = ...,
) -> list[list[Face]]: ...


def detect(
    source: AnyArtifact | Pipeline,
    pictures: Picture | Sequence[Picture],
    *,
    threshold: float = 0.0,
    threads: int = 0,
    runtime: Substitute | None = None,
    options: Mapping[str, Any] | None = None,
    with_: AnyArtifact | Sequence[AnyArtifact] = (),
) -> list[Face] | list[list[Face]]:
    """Find the faces of one picture, or of several.

    An artifact is opened for this call and closed again, which takes longer than finding faces. For call after call,
    open it once with `load` and give the pipeline.

    Args:
        source: The folder that `export` wrote, an artifact, or an open pipeline.
        pictures: One picture, or a sequence of them. A picture is an array (H, W, 3) uint8, BGR, or the path of a file.
        threshold: Leaves out faces with a lower score, 0..1.
        threads: CPU threads per network; 0 for every core of this process.
        runtime: "onnxruntime" runs the ONNX file of a `trt` artifact where there is no GPU.
        options: Changes to the pipeline's configuration, such as {"min_face": 20}.
        with_: Artifacts that look at the faces that were found: landmarks, pose, embedding, classes.

    Returns:
        The faces of the picture, best score first, in its pixels. Of a sequence, one such list for each picture, in
        order.

    Raises:
        InputError: a picture cannot be read or is not one, the artifact does not say what a face is, an option is
            unknown, one of `with_` does not look at faces, or `threads`, `runtime`, `options` or `with_` are given for
            a pipeline, which is open already.
        ArtifactError: the artifact is damaged, or its engine is still to be built.
        BackendUnavailableError: the backend is not installed, or this machine cannot run it.
    """
    with _opened(source, threads, runtime, options, with_) as pipeline:
        if isinstance(pipeline, ComposedPipeline) and pipeline is not source:
            pipeline.threshold = threshold  # So that what is left out is not looked at.
        if _several(pictures):
            return [_faces(pipeline, picture, threshold) for picture in pictures]
        return _faces(pipeline, cast("Picture", pictures), threshold)


@contextlib.contextmanager
def _opened(
    source: AnyArtifact | Pipeline,
    threads: int,
    runtime: Substitute | None,
    options: Mapping[str, Any] | None,
    with_: AnyArtifact | Sequence[AnyArtifact],
) -> Iterator[Pipeline]:
    """The pipeline itself, or that of an artifact, which is closed at the end."""
    if isinstance(source, Pipeline):
        if threads or runtime or options or with_:
            msg = "the pipeline is open already: give threads, runtime, options and with_ to `load`"
            raise InputError(msg)
        check_decodes(source, "the pipeline")
        yield source
        return
    with load(source, threads=threads, runtime=runtime, options=options, with_=with_) as pipeline:
        check_decodes(pipeline, str(source.path if isinstance(source, Artifact) else source))
        yield pipeline


def _several(pictures: Picture | Sequence[Picture]) -> TypeGuard[Sequence[Picture]]:
    """Whether it has parts that may be pictures. What has a shape, such as a tensor, is meant as one."""
    return (
        isinstance(pictures, Iterable)
        and not isinstance(pictures, (str, bytes, bytearray, os.PathLike))
        and not hasattr(pictures, "shape")
    )


def _faces(pipeline: Pipeline, picture: Picture, threshold: float) -> list[Face]:
    image = read_picture(Path(picture)) if isinstance(picture, (str, os.PathLike)) else picture
    return [face for face in pipeline.detect(image) if face.score >= threshold]
