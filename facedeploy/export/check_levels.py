"""Which levels of a detector the drawn scenes reach: where no box is likely a face, faces say nothing."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate

import numpy as np

from facedeploy.metrics.box_overlap import LIKELY, BoxOutputs
from facedeploy.runtimes.base import Array, Arrays, Opener, Runtime, RuntimeOptions
from facedeploy.runtimes.wrapped import Watched

# Boxes that a cell of each stride has, of the heads that are deployed (docs/reference/families.md). Of a head with
# other numbers nothing is known.
_LAYOUTS: tuple[dict[int, int], ...] = (
    *({8: n, 16: n, 32: n} for n in (1, 2, 3)),
    {8: 3, 16: 2, 32: 2, 64: 3},
    {8: 2, 16: 6},
    *({4: n, 8: n, 16: n, 32: n, 64: n, 128: n} for n in (1, 2)),
)


def levels(height: int, width: int, boxes: int) -> dict[int, slice]:
    """Stride -> which boxes are those of its cells; nothing where the head is not known.

    Args:
        height: Of the input, pixels.
        width: Of the input, pixels.
        boxes: How many the network gives, level after level.
    """
    for layout in _LAYOUTS:
        counts = [n * -(-height // stride) * -(-width // stride) for stride, n in layout.items()]
        if sum(counts) == boxes:
            ends = list(accumulate(counts))
            return {s: slice(end - n, end) for s, end, n in zip(layout, ends, counts, strict=True)}
    return {}


class Lit:
    """The best score that each level had, of the boxes of a network."""

    def __init__(self, boxes: BoxOutputs) -> None:
        self._boxes = boxes
        self._best: dict[int, float] = {}

    def watching(self, opens: Opener) -> Opener:
        """What opens the same network, and sees what it answers."""

        def opened(options: RuntimeOptions) -> Runtime:
            return Watched(opens(options), self._see)

        return opened

    def unlit(self) -> str:
        """At which strides no box was likely a face, for a person; empty where there is none."""
        dark = [str(stride) for stride, best in self._best.items() if best <= LIKELY]
        if not dark:
            return ""
        return f"no drawn face is found by the boxes of stride {' and '.join(dark)}: there tensors alone were compared"

    def _see(self, inputs: Mapping[str, Array], outputs: Arrays) -> None:
        named = self._boxes
        (picture, *others) = inputs.values()
        if others or picture.ndim != 4 or not {named.boxes, named.scores} <= outputs.keys():
            return
        count = outputs[named.boxes].size // 4
        height, width = picture.shape[2:]
        for stride, rows in levels(height, width, count).items():
            best = float(np.max(named.face_scores(outputs)[rows], initial=0.0))
            self._best[stride] = max(self._best.get(stride, 0.0), best)
