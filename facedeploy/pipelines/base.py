"""A pipeline: a picture in, faces out. It is given runtimes and never asks which backend they are."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

from facedeploy.core.errors import InputError
from facedeploy.core.face import Face
from facedeploy.core.preprocess import Image
from facedeploy.runtimes.base import Runtime


class Pipeline(abc.ABC):
    """Runs a model. Safe to call from several threads where its runtimes are; closing it closes them.

    pictures: networks whose input is a picture. many: those that get several inputs of their own for each picture, so
    that a runtime may compute them at once. decodes: whether faces come out; without that, `detect` runs the network
    and gives none.
    """

    pictures: ClassVar[frozenset[str]] = frozenset()
    many: ClassVar[frozenset[str]] = frozenset()
    decodes: ClassVar[bool] = True

    def __init__(self, runtimes: Mapping[str, Runtime]) -> None:
        self._runtimes = MappingProxyType(dict(runtimes))

    @property
    def runtimes(self) -> Mapping[str, Runtime]:
        """The networks that it was given, by name. They stay: a pipeline over others is another pipeline."""
        return self._runtimes

    @abc.abstractmethod
    def detect(self, image: Image) -> list[Face]:
        """Find the faces of a picture, best score first. `image`: (H, W, 3) uint8, BGR."""

    def close(self) -> None:
        for runtime in self.runtimes.values():
            runtime.close()

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def check_fractions(config: object, *names: str) -> None:
    """Check that fields of a configuration lie between 0 and 1.

    Raises:
        InputError: names the first that does not.
    """
    for name in names:
        if not 0 <= getattr(config, name) <= 1:
            msg = f"{name} must lie between 0 and 1, not {getattr(config, name)}"
            raise InputError(msg)
