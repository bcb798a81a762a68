"""Whether a network looks at a face that another one found: a guess, by the shapes of what it takes and gives."""

from __future__ import annotations

import math

from facedeploy.core.network_spec import NetworkSpec

_LARGEST = 256  # Sides of a crop, in pixels.
_ANGLES = 3
_MOST_CLASSES = 9
_POINTS = range(10, 1000)
_EMBEDDINGS = frozenset({128, 256, 512})


def behind_detector(spec: NetworkSpec) -> str:
    """What a network may say of one face, and why that is thought; empty where it looks like none of these.

    Args:
        spec: The network, with the shapes of its outputs.
    """
    size = spec.picture_size
    if size is None or max(size) > _LARGEST:
        return ""
    shapes = [tuple(d for d in t.shape if isinstance(d, int)) for t in spec.outputs]
    if not shapes or any(len([d for d in shape if d > 1]) > 1 for shape in shapes[-1:]):
        return ""
    counts = [math.prod(shape) for shape in shapes if len([d for d in shape if d > 1]) <= 1]
    found = next((kind for count in counts if (kind := _kind(count))), "")
    return found and f"for a picture of {size[0]}x{size[1]} it gives {found}"


def _kind(count: int) -> str:
    if count in _EMBEDDINGS:
        return f"{count} numbers, as an embedding has"
    if count == _ANGLES:
        return "three numbers, as yaw, pitch and roll are"
    if count in _POINTS:
        points = f"{count // 2} points" if count % 2 == 0 else "points and something else"
        return f"{count} numbers, as {points} have"
    return f"{count} numbers, as classes have" if 1 < count <= _MOST_CLASSES else ""
