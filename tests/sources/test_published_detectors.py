"""Published detectors with their real weights: no TOML file, and the faces of an independent decoder."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from facedeploy.core.face import Face
from facedeploy.core.preprocess import Pixels
from facedeploy.export.exporter import export
from facedeploy.pipelines.load import load
from facedeploy.pipelines.resize import fit

Floats = NDArray[np.float64]
Found = tuple[Floats, Floats, Floats]  # Boxes (N, 4), scores (N,) and points (N, 10), in pixels of the input.
FEW, ALL = 6, 200
SIDE = 640


@pytest.fixture(scope="module")
def pictures(assets: Path) -> list[Path]:
    return sorted((assets / "images" / "face_counting" / "test").glob("*.jpg"))


@pytest.fixture(scope="module")
def made(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Exports a detector once, without a word about what it is."""

    @functools.cache
    def make(name: str) -> Path:
        file, size = FILES[name]
        output = tmp_path_factory.mktemp(name) / "artifact"
        artifact = export(str(assets / "weights" / file), "onnx-fp32", output=output, input_size=size)
        assert artifact.manifest.settings["family"] == name
        assert artifact.manifest.recognised
        return output

    return make


FILES: dict[str, tuple[str, tuple[int, int] | None]] = {
    "yunet": ("yunet/yunet_n_640_640.onnx", None),
    "retinaface": ("retinaface_onnx/retinaface_mnet025_biubug6.onnx", (SIDE, SIDE)),
    "centerface": ("centerface/centerface_bnmerged.onnx", (SIDE, SIDE)),
}
THRESHOLDS = {"yunet": 0.6, "retinaface": 0.5, "centerface": 0.5}


def opencv_yunet(path: Path) -> Callable[[Pixels], Found]:
    detector = cv2.FaceDetectorYN.create(str(path), "", (SIDE, SIDE), THRESHOLDS["yunet"], 0.3, 5000)

    def find(picture: Pixels) -> Found:
        _, rows = detector.detect(picture)
        faces = np.zeros((0, 15)) if rows is None else np.asarray(rows, np.float64)
        boxes = np.hstack([faces[:, :2], faces[:, :2] + faces[:, 2:4]])
        return boxes, faces[:, 14], faces[:, 4:14]

    return find


def _suppress(faces: Iterator[tuple[list[float], float, list[float]]], limit: float) -> Found:
    """Greedy suppression, one pair at a time. Scores within 1e-5 are equal and the last box of them wins, as with us:
    the published decoders leave that to the last bit of a score, and so to the backend.
    """
    kept: list[tuple[list[float], float, list[float]]] = []
    ordered = [f for _, f in sorted(enumerate(faces), key=lambda at: (round(float(at[1][1]), 5), at[0]), reverse=True)]
    for box, score, points in ordered:
        if all(_overlap(box, other) <= limit for other, _, _ in kept):
            kept.append((box, score, points))
    return (
        np.array([k[0] for k in kept]).reshape(-1, 4),
        np.array([k[1] for k in kept]),
        np.array([k[2] for k in kept]).reshape(-1, 10),
    )


def _overlap(a: list[float], b: list[float]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(v[2] - v[0]) * (v[3] - v[1]) for v in (a, b)]
    return width * height / (areas[0] + areas[1] - width * height)


def plain_retinaface(path: Path) -> Callable[[Pixels], Found]:
    """data/config.py, layers/functions/prior_box.py and utils/box_utils.py of biubug6/Pytorch_Retinaface."""
    session = onnxruntime.InferenceSession(str(path))

    def find(picture: Pixels) -> Found:
        tensor = (picture.astype(np.float32) - np.array([104, 117, 123], np.float32)).transpose(2, 0, 1)[None]
        loc, conf, landm = (
            v[0].astype(np.float64) for v in session.run(["loc", "conf", "landmarks"], {"input": tensor})
        )

        def faces() -> Iterator[tuple[list[float], float, list[float]]]:
            i = -1
            for stride, sizes in ((8, (16, 32)), (16, (64, 128)), (32, (256, 512))):
                for row in range(SIDE // stride):
                    for column in range(SIDE // stride):
                        for size in sizes:
                            i += 1
                            if conf[i, 1] <= THRESHOLDS["retinaface"]:
                                continue
                            x0, y0 = (column + 0.5) * stride, (row + 0.5) * stride
                            x, y = x0 + loc[i, 0] * 0.1 * size, y0 + loc[i, 1] * 0.1 * size
                            w, h = size * np.exp(loc[i, 2] * 0.2), size * np.exp(loc[i, 3] * 0.2)
                            points = [(x0, y0)[k % 2] + landm[i, k] * 0.1 * size for k in range(10)]
                            yield [x - w / 2, y - h / 2, x + w / 2, y + h / 2], conf[i, 1], points

        return _suppress(faces(), 0.4)

    return find


def plain_centerface(path: Path) -> Callable[[Pixels], Found]:
    """prj-python/centerface.py of Star-Clouds/CenterFace, without its cut at the picture's edges."""
    model = onnx.load(path)
    for value in (model.graph.input[0], *model.graph.output):
        for dim in (value.type.tensor_type.shape.dim[i] for i in (0, 2, 3)):
            dim.dim_param = "open"
    session = onnxruntime.InferenceSession(model.SerializeToString())

    def find(picture: Pixels) -> Found:
        tensor = picture[..., ::-1].astype(np.float32).transpose(2, 0, 1)[None]
        heat, scale, offset, points = session.run(None, {"input.1": np.ascontiguousarray(tensor)})

        def faces() -> Iterator[tuple[list[float], float, list[float]]]:
            for row, column in zip(*np.nonzero(heat[0, 0] > THRESHOLDS["centerface"]), strict=True):
                h, w = (float(np.exp(v)) * 4 for v in scale[0, :, row, column])
                y = (row + offset[0, 0, row, column] + 0.5) * 4 - h / 2
                x = (column + offset[0, 1, row, column] + 0.5) * 4 - w / 2
                own = points[0, :, row, column]
                pairs = [v for k in range(5) for v in (own[2 * k + 1] * w + x, own[2 * k] * h + y)]
                yield [x, y, x + w, y + h], float(heat[0, 0, row, column]), pairs

        return _suppress(faces(), 0.3)

    return find


DECODERS: dict[str, Callable[[Path], Callable[[Pixels], Found]]] = {
    "yunet": opencv_yunet,
    "retinaface": plain_retinaface,
    "centerface": plain_centerface,
}


@pytest.mark.parametrize("count", [FEW, pytest.param(ALL, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", list(FILES))
def test_the_faces_are_those_of_an_independent_decoder(
    name: str, count: int, made: Callable[[str], Path], pictures: list[Path], assets: Path
) -> None:
    """One size, one threshold, every picture: boxes and points within 0.1 pixel, scores within 1e-3."""
    independent = DECODERS[name](assets / "weights" / FILES[name][0])
    seen = 0
    with load(made(name)) as pipeline:
        for file in pictures[:count]:
            picture = np.asarray(cv2.imread(str(file)), np.uint8)
            canvas, scale = fit(picture, SIDE, SIDE, pipeline.preprocess.blank)  # type: ignore[attr-defined]
            boxes, scores, points = independent(canvas[0])
            ours = pipeline.detect(picture)
            assert len(ours) == len(boxes), file.name
            seen += len(ours)
            _compare(ours, boxes / scale[0], scores, points / scale[0])
    assert seen > 2 * count


def _compare(ours: list[Face], boxes: Floats, scores: Floats, points: Floats) -> None:
    """Faces are matched by their boxes: equal scores may come in another order."""
    for face in ours:
        nearest = int(np.abs(boxes - np.array(face.box)).max(axis=1).argmin())
        assert face.landmarks is not None
        np.testing.assert_allclose(face.box, boxes[nearest], atol=0.1)
        np.testing.assert_allclose(np.ravel(face.landmarks), points[nearest], atol=0.1)
        assert face.score == pytest.approx(scores[nearest], abs=1e-3)


@pytest.mark.parametrize(
    ("callable_", "weights", "anchors"),
    [
        pytest.param("RetinaFace", "mobilenet0.25_Final.pth", [10, 20], marks=pytest.mark.slow),
        ("Slim", "slim_Final.pth", [10, 16, 24]),
    ],
)
def test_state_dicts_through_a_factory(
    callable_: str, weights: str, anchors: list[float], assets: Path, tmp_path: Path
) -> None:
    """The anchors are found by what the boxes of a face agree on: the same outputs are published with two sets."""
    artifact = export(
        f"tests.support.retinaface_modules:{callable_}",
        "onnx-fp32",
        assets / "weights" / "retinaface_1mb" / weights,
        tmp_path / "artifact",
        input_size=(320, 320),
    )
    settings: dict[str, Any] = artifact.manifest.settings
    assert settings["family"] == "retinaface"
    assert settings["decode"]["sizes"][0] == anchors
    picture = np.asarray(cv2.imread(str(Path(__file__).parents[2] / "examples" / "astronaut.jpg")), np.uint8)
    with load(artifact) as pipeline:
        (face,) = pipeline.detect(picture)
    np.testing.assert_allclose(face.box, (179, 58, 272, 176), atol=6)
    assert face.landmarks is not None
    assert len(face.landmarks) == 5
