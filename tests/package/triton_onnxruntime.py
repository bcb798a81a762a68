"""Triton's backend for ONNX files, in Python: the wheel of the server has none of its own.

The server itself checks requests against config.pbtxt before they come here, and answers after.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnxruntime
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]  # Triton has it.


class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config: Any) -> Any:
        return config

    def initialize(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        file = Path(args["model_repository"]) / args["model_version"] / config["default_model_filename"]
        self.session = onnxruntime.InferenceSession(str(file))
        self.outputs = [output["name"] for output in config["output"]]

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        return [self._answer({t.name(): t.as_numpy() for t in request.inputs()}) for request in requests]

    def _answer(self, inputs: dict[str, Any]) -> Any:
        values = self.session.run(self.outputs, inputs)
        return pb_utils.InferenceResponse([pb_utils.Tensor(n, v) for n, v in zip(self.outputs, values, strict=True)])
