"""Faces of a picture, for Triton's Python backend. Needs facedeploy where the server runs, and the artifact beside it.

A request has one of two inputs: `picture`, (H, W, 3) uint8, BGR; or `encoded`, (1,) bytes, a JPEG, PNG or other file
that OpenCV reads. The answer has N faces, best score first, in pixels of the picture:

- `boxes`, (N, 4) float32: x1, y1, x2, y2
- `scores`, (N,) float32: 0..1
- `landmarks`, (N, P, 2) float32; P is 0 for a model without
- `pose`, (N, 3) float32: yaw, pitch, roll in degrees; NaN where the model does not say
- `faces`, (1,) bytes: all that the model says of them, as JSON
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]  # Triton has it.
from numpy.typing import NDArray

import facedeploy


class TritonPythonModel:
    """The name that Triton looks for."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the artifact."""
        parameters = json.loads(args["model_config"]).get("parameters", {})
        given = {name: value["string_value"] for name, value in parameters.items() if value["string_value"]}
        self.pipeline = facedeploy.load(
            Path(__file__).with_name("artifact"),
            threads=int(given.get("threads", "0")),
            runtime="onnxruntime" if given.get("runtime") == "onnxruntime" else None,
            options=json.loads(given.get("options", "{}")),
        )

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """An answer for each request. One that is wrong gets an error, and the others get their faces."""
        return [self._answer(request) for request in requests]

    def finalize(self) -> None:
        """Close the networks."""
        self.pipeline.close()

    def _answer(self, request: Any) -> Any:
        try:
            faces = self.pipeline.detect(read(request))
        except (facedeploy.FacedeployError, cv2.error) as error:
            wrong = isinstance(error, facedeploy.InputError | cv2.error)
            code = pb_utils.TritonError.INVALID_ARG if wrong else pb_utils.TritonError.INTERNAL
            return pb_utils.InferenceResponse([], pb_utils.TritonError(str(error), code))
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, value) for name, value in arrays(faces).items()])


def read(request: Any) -> NDArray[np.uint8]:
    """The picture of a request, (H, W, 3) uint8, BGR.

    Raises:
        InputError: it has none, or two, or one that OpenCV does not read.
    """
    picture = pb_utils.get_input_tensor_by_name(request, "picture")
    encoded = pb_utils.get_input_tensor_by_name(request, "encoded")
    if (picture is None) == (encoded is None):
        msg = "give either picture, (H, W, 3) uint8, BGR, or encoded, the bytes of a picture file"
        raise facedeploy.InputError(msg)
    if encoded is None:
        return picture.as_numpy()  # type: ignore[no-any-return]  # Triton has checked type and rank.
    data = np.frombuffer(encoded.as_numpy()[0], np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if image is None:
        msg = f"encoded holds {data.size} bytes that are no picture which OpenCV reads"
        raise facedeploy.InputError(msg)
    return image  # type: ignore[return-value]  # IMREAD_COLOR gives uint8.


def arrays(faces: Sequence[facedeploy.Face]) -> dict[str, NDArray[Any]]:
    """The outputs, by name."""
    points = max((len(f.landmarks or ()) for f in faces), default=0)
    angles = [[np.nan if v is None else v for v in (f.yaw, f.pitch, f.roll)] for f in faces]
    text = json.dumps([f.to_dict() for f in faces])
    return {
        "boxes": np.array([f.box for f in faces], np.float32).reshape(-1, 4),
        "scores": np.array([f.score for f in faces], np.float32),
        "landmarks": np.array([f.landmarks or () for f in faces], np.float32).reshape(len(faces), points, 2),
        "pose": np.array(angles, np.float32).reshape(-1, 3),
        "faces": np.array([text.encode()], np.object_),
    }
