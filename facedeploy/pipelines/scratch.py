"""Memory that a thread uses again from picture to picture.

Fresh memory costs the system a page fault for every 4 kB. For the pyramid of a photo that was two of fourteen
milliseconds.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from facedeploy.spec import Shape


class Scratch(threading.local):
    """One growing block of float32 for each thread."""

    def __init__(self) -> None:
        self._block = np.empty(0, np.float32)

    def arrays(self, shapes: Sequence[Shape]) -> list[NDArray[np.float32]]:
        """Uninitialised arrays, valid until the same thread asks again."""
        sizes = [math.prod(shape) for shape in shapes]
        if self._block.size < sum(sizes):
            self._block = np.empty(sum(sizes), np.float32)
        ends = np.cumsum([0, *sizes]).tolist()
        return [self._block[a:b].reshape(s) for a, b, s in zip(ends, ends[1:], shapes, strict=False)]
