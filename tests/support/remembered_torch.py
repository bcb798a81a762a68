"""PyTorch that answers each question once: all targets of a model ask the same, and it is slower than any of them."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256

from facedeploy.runtimes.base import Array, Arrays
from facedeploy.runtimes.torch import TorchRuntime

Answers = dict[tuple[object, ...], Arrays]


def remembering(answers: Answers, model: str) -> type[TorchRuntime]:
    """The runtime to put in the place of TorchRuntime.

    Args:
        answers: What was answered before, of any model.
        model: Whose networks it runs; two models may have networks of one spec.
    """

    class Remembering(TorchRuntime):
        def run(self, inputs: Mapping[str, Array]) -> Arrays:
            key = model, self.spec, *(sha256(v.tobytes()).digest() for v in inputs.values())
            if key not in answers:
                answers[key] = super().run(inputs)
            return answers[key]

    return Remembering
