"""A detector, and networks that say more of the faces that it finds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from facedeploy.artifact.chain import DETECTOR
from facedeploy.core.errors import InputError
from facedeploy.core.face import Face
from facedeploy.core.preprocess import Image
from facedeploy.pipelines.base import Looker, Pipeline
from facedeploy.runtimes.base import Runtime

# What a looker may change of a face.
_FIELDS = ("landmarks", "yaw", "pitch", "roll", "embedding", "classes")


class ComposedPipeline(Pipeline):
    """Faces of the detector with a score of at least `threshold`, with what the lookers say of them.

    Each looker sees what the detector found, and not what another one says. Closing it closes all.

    Attributes:
        detector: Finds the faces.
        lookers: Look at the faces that were found, by name.
        threshold: Leaves out faces with a lower score, 0..1.
    """

    def __init__(self, detector: Pipeline, lookers: Mapping[str, Looker], threshold: float = 0.0) -> None:
        """Put them together.

        Raises:
            InputError: two lookers give the same.
        """
        self.detector = detector
        self.lookers = MappingProxyType(dict(lookers))
        self.threshold = threshold
        check_gives((name, looker.gives) for name, looker in lookers.items())
        parts: dict[str, Pipeline] = {DETECTOR: detector, **self.lookers}
        runtimes: dict[str, Runtime] = {
            network_name(part, name): runtime
            for part, pipeline in parts.items()
            for name, runtime in pipeline.runtimes.items()
        }
        super().__init__(runtimes)
        names = [network_name(part, name) for part, pipeline in parts.items() for name in pipeline.pictures]
        self.pictures = frozenset(names)  # type: ignore[misc]  # Of a class elsewhere, of the parts here.

    def _detect(self, image: Image) -> list[Face]:
        found = [f for f in self.detector._detect(image) if f.score >= self.threshold]
        told: list[dict[str, Any]] = [{} for _ in found]
        for looker in self.lookers.values():
            for more, face, looked in zip(told, found, looker._locate(image, found), strict=True):
                changed = {n: v for n in _FIELDS if (v := getattr(looked, n)) is not getattr(face, n)}
                if "classes" in changed:
                    changed["classes"] = {**more.get("classes", {}), **changed["classes"]}
                more.update(changed)
        return [replace(face, **more) for face, more in zip(found, told, strict=True)]

    def close(self) -> None:
        self.detector.close()
        for looker in self.lookers.values():
            looker.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {', then '.join(map(repr, (self.detector, *self.lookers.values())))}>"


def network_name(part: str, network: str) -> str:
    """What a network of a part is called in the whole."""
    return f"{part}/{network}"


def check_gives(gives: Iterable[tuple[str, frozenset[str]]]) -> None:
    """Check that no two lookers, each with its name, give the same.

    Raises:
        InputError: names what, and both.
    """
    taken: dict[str, str] = {}
    for name, things in gives:
        for thing in sorted(things):
            if thing in taken:
                msg = f"both {taken[thing]} and {name} give {thing}: leave one of them out"
                raise InputError(msg)
            taken[thing] = name
