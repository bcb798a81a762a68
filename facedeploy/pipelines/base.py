"""A pipeline: a picture in, faces out. It is given runtimes and never asks which backend they are."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar

from facedeploy.core.errors import FacedeployError, InputError
from facedeploy.core.face import Face
from facedeploy.core.picture_check import check_picture, check_pictures
from facedeploy.core.preprocess import Image
from facedeploy.runtimes.base import Runtime


class Pipeline(abc.ABC):
    """Runs a model: a picture in, faces out.

    Several threads may call one pipeline at once where they may call its runtimes. Closing it closes its runtimes, and
    using it after that is an error.

    Attributes:
        runtimes: The runtime of each network, by the network's name.
        pictures: Names of the networks whose input is a picture.
        many: Names of the networks that get several inputs for each picture, so that a runtime may compute them at
            once.
        resizes: How pictures may get the network's size, as `Preprocess.resize` names it.
        decodes: Whether faces come out. Without that, `detect` runs the network and gives no faces.
        finds: Whether it looks for faces. Without that, `detect` takes a picture for one face that fills it.
    """

    pictures: ClassVar[frozenset[str]] = frozenset()
    many: ClassVar[frozenset[str]] = frozenset()
    resizes: ClassVar[frozenset[str]] = frozenset({"bilinear"})
    decodes: ClassVar[bool] = True
    finds: ClassVar[bool] = True

    def __init__(self, runtimes: Mapping[str, Runtime]) -> None:
        self._runtimes = MappingProxyType(dict(runtimes))

    @property
    def runtimes(self) -> Mapping[str, Runtime]:
        """The networks that it was given, by name. They stay: a pipeline over others is another pipeline."""
        return self._runtimes

    def detect(self, image: Image) -> list[Face]:
        """Find the faces of a picture.

        Args:
            image: The picture, (H, W, 3) uint8, BGR. One without pixels has no faces.

        Returns:
            The faces, best score first, in pixels of the picture.

        Raises:
            InputError: `image` is no picture; the message says how to make one of it.
            FacedeployError: the pipeline is closed.
        """
        self._check_open()
        return self._found(check_picture(image, empty=True))

    def detect_batch(self, images: Iterable[Image]) -> list[list[Face]]:
        """Find the faces of several pictures, of any sizes, one after the other.

        It takes as long as that many calls of `detect`: the networks of detectors take one picture at a time.

        Args:
            images: The pictures, each (H, W, 3) uint8, BGR, or an array (N, H, W, 3) of them. They are read when their
                turn comes, so that a generator may give the frames of a long video.

        Returns:
            The faces of each picture, in order, as `detect` gives them.

        Raises:
            InputError: one of them is no picture; the message says which, from 0.
            FacedeployError: the pipeline is closed.
        """
        self._check_open()
        found = []
        for number, image in enumerate(check_pictures(images)):
            try:
                checked = check_picture(image, empty=True)
            except InputError as error:
                msg = f"picture {number} of the batch: {error}"
                raise InputError(msg) from error
            found.append(self._found(checked))
        return found

    def _found(self, picture: Image) -> list[Face]:
        return self._detect(picture) if picture.size else []

    @abc.abstractmethod
    def _detect(self, image: Image) -> list[Face]:
        """What `detect` gives, of what is a picture."""

    @property
    def closed(self) -> bool:
        """Whether `close` was called, or one of its runtimes is closed."""
        return any(runtime.closed for runtime in self._runtimes.values())

    def _check_open(self) -> None:
        if self.closed:
            msg = f"the pipeline of {', '.join(self._runtimes)} is closed: open its artifact again with facedeploy.load"
            raise FacedeployError(msg)

    def close(self) -> None:
        """Close the runtimes. Closing twice is fine."""
        for runtime in self.runtimes.values():
            runtime.close()

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        """Say the family, the networks, their backends and threads, and whether the pipeline is closed."""
        runtimes = self.runtimes.values()
        backends = ", ".join(dict.fromkeys(r.backend for r in runtimes))
        threads = max((r.options.threads for r in runtimes), default=0)
        closed = " (closed)" if self.closed else ""
        count = f"{threads} thread{'' if threads == 1 else 's'}"
        return f"<{type(self).__name__}: {', '.join(self.runtimes)} on {backends}, {count}{closed}>"


class Looker(Pipeline):
    """Says more of faces that are already found.

    Attributes:
        gives: What of it, in words; of two networks only one may give it.
        aligned: Whether it needs the five points of each face.
    """

    gives: frozenset[str]
    aligned: bool = False

    def locate(self, image: Image, faces: Sequence[Face]) -> list[Face]:
        """The same faces with what it says of them; boxes and scores stay.

        Args:
            image: The picture, (H, W, 3) uint8, BGR.
            faces: As a detector found them.

        Raises:
            InputError: a face has not the five points that the network needs, or `image` is no picture.
            FacedeployError: the pipeline is closed.
        """
        self._check_open()
        return self._locate(check_picture(image), faces)

    @abc.abstractmethod
    def _locate(self, image: Image, faces: Sequence[Face]) -> list[Face]:
        """What `locate` gives, of what is a picture."""


def check_decodes(pipeline: Pipeline, name: str) -> None:
    """Check that faces come out of a pipeline, and that it looks for them.

    Args:
        pipeline: The pipeline to check.
        name: What the message calls it, such as the artifact's folder.

    Raises:
        InputError: the network's outputs have no meaning, so there are no faces; or it looks at faces only.
    """
    if not pipeline.finds:
        msg = (
            f"{name} finds no faces, but looks at those that a detector has found: "
            "run `facedeploy detect DETECTOR PICTURES --with` it"
        )
        raise InputError(msg)
    if not pipeline.decodes:
        msg = (
            f"{name} gives tensors and no faces, as it was exported without saying what its outputs mean: "
            "name them under [outputs] in the TOML file of the model and export it again (docs/guides/own-model.md)"
        )
        raise InputError(msg)


def check_fractions(config: object, *names: str) -> None:
    """Check that fields of a configuration lie between 0 and 1.

    Args:
        config: The configuration.
        *names: Its fields.

    Raises:
        InputError: names the first that does not.
    """
    for name in names:
        if not 0 <= getattr(config, name) <= 1:
            msg = f"{name} must lie between 0 and 1, not {getattr(config, name)}"
            raise InputError(msg)
