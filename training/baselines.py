"""Published detectors to compare with, as their authors run them: a picture in, faces out."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Protocol

import cv2
import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from facedeploy.core.face import Face
from facedeploy.core.preprocess import Image, Preprocess
from facedeploy.pipelines.resize import fit

Floats = NDArray[np.floating]
Size = tuple[int, int]

BLACK = (0, 0, 0)


class Detector(Protocol):
    def detect(self, image: Image) -> list[Face]:
        """Find the faces of a picture (H, W, 3) uint8, BGR, best score first; in pixels of the picture."""
        ...


class YuNet:
    """YuNet-n in OpenCV, which fills the picture up to multiples of 32 itself.

    Suppression: of its evaluation on WIDER FACE (ShiqiYu/libfacedetection.train, configs/yunet_n.py). threshold and
    `top`: the defaults of cv2.FaceDetectorYN. OpenCV is how it is published for use, and not the fastest way to run it.
    """

    name: ClassVar[str] = "yunet-n"
    threshold: ClassVar[float] = 0.9
    file: ClassVar[str] = "weights/yunet/yunet_n_dynamic.onnx"
    nms: ClassVar[float] = 0.45
    top: ClassVar[int] = 5000

    def __init__(self, assets: Path, size: Size, threshold: float, threads: int) -> None:
        cv2.setNumThreads(threads)
        self._size = size
        self._threads = threads
        self._inner = cv2.FaceDetectorYN.create(
            str(assets / self.file), "", (size[1], size[0]), threshold, self.nms, self.top
        )

    def detect(self, image: Image) -> list[Face]:
        # OpenCV has one count for the whole process, and another library may have changed it.
        if cv2.getNumThreads() != self._threads:
            cv2.setNumThreads(self._threads)
        pixels, scale = fit(image, *self._size, BLACK)
        rows: Floats | None = self._inner.detect(pixels[0])[1]  # None without faces.
        if rows is None:
            return []
        rows = rows[np.argsort(-rows[:, 14], kind="stable")].astype(np.float64)
        corners = np.hstack([rows[:, :2], rows[:, :2] + rows[:, 2:4]]) / np.tile(scale, 2)
        points = rows[:, 4:14].reshape(-1, 5, 2) / scale
        return [
            Face(tuple(box), score, tuple(map(tuple, five)))
            for box, score, five in zip(corners.tolist(), rows[:, 14].tolist(), points.tolist(), strict=True)
        ]


class Ulfd:
    """version-RFB-320 of Linzaer/Ultra-Light-Fast-Generic-Face-Detector-1MB in ONNX Runtime, at any size.

    Priors, variances and suppression: vision/ssd/config/fd_config.py and vision/utils/box_utils.py there; threshold and
    `top`: detect_imgs.py. The file is the one without the decoding, since the other has the priors of 240x320 in it.
    """

    name: ClassVar[str] = "ulfd-rfb-320"
    threshold: ClassVar[float] = 0.6
    file: ClassVar[str] = "weights/ulfd/version-RFB-320_without_postprocessing.onnx"
    nms: ClassVar[float] = 0.3
    top: ClassVar[int] = 1500
    preprocess: ClassVar[Preprocess] = Preprocess(colours="rgb", mean=(127.0, 127.0, 127.0), scale=1 / 128)

    def __init__(self, assets: Path, size: Size, threshold: float, threads: int) -> None:
        self._size = size
        self._threshold = threshold
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3  # It warns of every counter of BatchNorm.
        self._session = ort.InferenceSession(
            _resized(assets / self.file, size), options, providers=["CPUExecutionProvider"]
        )
        self._centres, self._sides = ulfd_priors(size)

    def detect(self, image: Image) -> list[Face]:
        pixels, scale = fit(image, *self._size, self.preprocess.blank)
        scores, offsets = self._session.run(["scores", "boxes"], {"input": self.preprocess.tensor(pixels)})
        sure = np.flatnonzero(scores[0, :, 1] > self._threshold)
        best, corners = scores[0, sure, 1], self._decoded(offsets[0, sure], sure) / np.tile(scale, 2)
        sides = np.hstack([corners[:, :2], corners[:, 2:] - corners[:, :2]])
        kept = np.array(cv2.dnn.NMSBoxes(sides.tolist(), best.tolist(), 0.0, self.nms, 1.0, self.top), np.intp).ravel()
        return [Face(tuple(b), s) for b, s in zip(corners[kept].tolist(), best[kept].tolist(), strict=True)]

    def _decoded(self, offsets: Floats, priors: NDArray[np.intp]) -> Floats:
        """Boxes (N, 4) as corners, in pixels of the network's input."""
        middle = self._centres[priors] + 0.1 * offsets[:, :2] * self._sides[priors]
        half = self._sides[priors] * np.exp(0.2 * offsets[:, 2:]) / 2
        return np.hstack([middle - half, middle + half])


BASELINES: tuple[type[YuNet] | type[Ulfd], ...] = (YuNet, Ulfd)


def ulfd_priors(size: Size) -> tuple[Floats, Floats]:
    """Centres (P, 2) x, y and sides (P, 1 or 2) of the priors for a (height, width), in pixels."""
    centres, sides = [], []
    for stride, anchors in ((8, (10, 16, 24)), (16, (32, 48)), (32, (64, 96)), (64, (128, 192, 256))):
        rows, columns = -(-size[0] // stride), -(-size[1] // stride)
        # A cell is the picture's share, and not the stride: they differ where the stride does not divide the size.
        y, x = np.mgrid[:rows, :columns] + 0.5
        cells = np.stack([x * size[1] / columns, y * size[0] / rows], axis=-1).reshape(-1, 2)
        centres.append(np.repeat(cells, len(anchors), axis=0))
        sides.append(np.tile(np.array(anchors, float), rows * columns))
    # The published priors are clamped to the picture: the largest is 240 high at 240x320.
    clamped = np.minimum(np.concatenate(sides)[:, None], [size[1], size[0]])
    return np.concatenate(centres), clamped


def _resized(path: Path, size: Size) -> bytes:
    """The graph for another input size. Its weights are no longer inputs, so that ONNX Runtime may fuse them."""
    model: Any = onnx.load(str(path))
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [i for i in graph.input if i.name not in weights]
    for dim, value in zip(inputs[0].type.tensor_type.shape.dim[2:], size, strict=True):
        dim.dim_value = value
    del graph.input[:]
    graph.input.extend(inputs)
    for output in graph.output:
        output.type.tensor_type.shape.dim[1].dim_param = "priors"
    del graph.value_info[:]
    content: bytes = model.SerializeToString()
    return content
