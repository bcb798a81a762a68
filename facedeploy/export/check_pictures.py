"""Does the way that pictures take end at the answers of the way that tensors take? A runtime may compile it apart."""

from __future__ import annotations

from collections.abc import Iterable

from facedeploy.core.errors import ParityError
from facedeploy.core.preprocess import Pixels, Preprocess
from facedeploy.core.target import Precision
from facedeploy.runtimes.base import Arrays, Runtime
from facedeploy.runtimes.wrapped import Wrapped
from facedeploy.verification.tensors import TOLERANCES, compare, describe


class SamePictures(Wrapped):
    """Compares the two on the first picture.

    Both are of one compile, so nothing lies between them but rounding: at most 4e-6 relative L2 where it was measured,
    in int8 too, whatever the precision costs.
    """

    def __init__(self, inner: Runtime, prepare: Preprocess, precision: Precision) -> None:
        """Wrap a runtime.

        Args:
            inner: Runs on pictures, and on tensors.
            prepare: What it was asked to do to pixels.
            precision: Halves may round at other places.
        """
        super().__init__(inner)
        self._prepare = prepare
        self._tolerance = TOLERANCES["fp32" if precision == "fp32" else "fp16"]
        self._compared = False

    def run_pictures(self, pictures: Iterable[Pixels]) -> list[Arrays]:
        """Run over stacks of pictures.

        Raises:
            ParityError: the answers to the first stack are not those to its tensors.
        """
        stacks = list(pictures)
        answers = self.inner.run_pictures(stacks)
        if stacks and not self._compared:
            self._compared = True
            self._compare(answers[0], self.inner.run({self.spec.inputs[0].name: self._prepare.tensor(stacks[0])}))
        return answers

    def _compare(self, have: Arrays, want: Arrays) -> None:
        for name, values in want.items():
            row = compare(self.spec.name, name, self.inner.backend, values, have[name])
            if not self._tolerance.accepts(row):
                msg = f"of a picture and not of its tensor {describe(row)}: the pixels are wrong, so try another target"
                raise ParityError(msg)
