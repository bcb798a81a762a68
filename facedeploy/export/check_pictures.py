"""Does the way that pictures take end at the answers of the way that tensors take? A runtime may compile it apart."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from facedeploy.core.errors import ParityError
from facedeploy.core.preprocess import Pixels, Preprocess
from facedeploy.core.target import Precision
from facedeploy.runtimes.base import Arrays, Runtime
from facedeploy.runtimes.wrapped import Wrapped
from facedeploy.verification.tensors import TOLERANCES, Tolerance, compare, describe

# Relative L2 in int8. Measured are 4e-6, as in float, where one compile does both, 0.04 where OpenVINO chose other
# kernels for pixels, and 0.1 and more of pixels that are wrong.
_INT8 = 6e-2


class SamePictures(Wrapped):
    """Compares the two on the first picture: nothing lies between them but rounding, whatever the precision costs."""

    def __init__(self, inner: Runtime, prepare: Preprocess, precision: Precision) -> None:
        """Wrap a runtime.

        Args:
            inner: Runs on pictures, and on tensors.
            prepare: What it was asked to do to pixels.
            precision: Halves may round at other places.
        """
        super().__init__(inner)
        self._prepare = prepare
        self._tolerance = _tolerance(precision)
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


def _tolerance(precision: Precision) -> Tolerance:
    if precision == "int8":
        return replace(TOLERANCES["fp16"], relative=_INT8)
    return TOLERANCES["fp32" if precision == "fp32" else "fp16"]
