"""Targets: a backend and a precision, written `openvino-fp16`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from facedeploy.core.errors import InputError

Backend = Literal["torch", "onnx", "openvino", "ncnn", "trt"]
Precision = Literal["fp32", "fp16", "bf16", "int8"]


@dataclass(frozen=True)
class Target:
    """What an export is for, written `backend-precision`.

    Attributes:
        backend: What runs the networks.
        precision: What they compute in.
    """

    backend: Backend
    precision: Precision

    def __str__(self) -> str:
        return f"{self.backend}-{self.precision}"

    @staticmethod
    def parse(text: str) -> Target:
        """Read a target.

        Args:
            text: `backend-precision`, such as "openvino-fp16".

        Returns:
            The target.

        Raises:
            InputError: no such target; the message lists those that exist.
        """
        for target in TARGETS:
            if str(target) == text:
                return target
        msg = f"there is no target {text!r}; targets are {', '.join(map(str, TARGETS))}"
        raise InputError(msg)


# torch and onnx are the references, so they have no reduced precision of their own.
_PRECISIONS: dict[Backend, tuple[Precision, ...]] = {
    "torch": ("fp32",),
    "onnx": ("fp32",),
    "openvino": ("fp32", "fp16", "bf16", "int8"),
    "ncnn": ("fp32", "fp16", "int8"),
    "trt": ("fp32", "fp16", "int8"),
}
TARGETS = tuple(Target(backend, precision) for backend, known in _PRECISIONS.items() for precision in known)
