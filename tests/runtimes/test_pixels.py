"""Pictures in 8 bits through every runtime: the same answers as normalising first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from facedeploy.core.errors import FacedeployError, InputError
from facedeploy.core.preprocess import Pixels, Preprocess
from facedeploy.runtimes.base import RuntimeOptions
from tests.conftest import GetArtifact
from tests.runtimes.test_runtimes import BACKENDS, assert_same, open_rnet

PREPROCESSES = {
    "scaled": Preprocess(scale=1 / 255),
    "mean": Preprocess(mean=(104.0, 117.0, 123.0), scale=1 / 128),
    "rgb": Preprocess(colours="rgb", mean=(123.0, 117.0, 104.0), scale=1 / 64),
    "scaled by colour": Preprocess(colours="rgb", mean=(124.0, 116.0, 104.0), scale=(1 / 58, 1 / 57, 1 / 50)),
}


def pictures(seed: int, *counts: int) -> list[Pixels]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (n, 24, 24, 3), dtype=np.uint8) for n in counts]


@pytest.mark.parametrize("name", PREPROCESSES)
def test_normalisation_is_what_it_says(name: str) -> None:
    """An oracle pixel by pixel, from the definition."""
    preprocess = PREPROCESSES[name]
    pixels = pictures(0, 2)[0]
    tensor = preprocess.tensor(pixels)
    for n, y, x, c in [(0, 0, 0, 0), (1, 5, 7, 1), (1, 23, 23, 2), (0, 3, 20, 0)]:
        source = c if preprocess.colours == "bgr" else 2 - c
        want = (float(pixels[n, y, x, source]) - preprocess.mean[c]) * preprocess.scales[c]
        assert tensor[n, c, y, x] == pytest.approx(want, abs=1e-5)


@pytest.mark.parametrize("name", PREPROCESSES)
@pytest.mark.parametrize("target", BACKENDS)
def test_pictures_give_what_tensors_give(target: str, name: str, artifact: GetArtifact) -> None:
    options = RuntimeOptions(1, preprocess=PREPROCESSES[name])
    given = pictures(1, 1, 3, 2)
    with open_rnet(target, artifact, options) as runtime:
        for have, pixels in zip(runtime.run_pictures(given), given, strict=True):
            assert_same(have, runtime.run({"image": PREPROCESSES[name].tensor(pixels)}))


@pytest.mark.parametrize("target", ["onnx-fp32", "openvino-fp32"])
def test_a_wrong_channel_order_is_seen(target: str, artifact: GetArtifact) -> None:
    given = pictures(2, 2)
    with open_rnet(target, artifact, RuntimeOptions(1, preprocess=PREPROCESSES["scaled"])) as runtime:
        (right,) = runtime.run_pictures(given)
        (wrong,) = runtime.run_pictures([np.ascontiguousarray(given[0][..., ::-1])])
    assert np.abs(right["box"] - wrong["box"]).max() > 1e-3


@pytest.mark.parametrize("streams", [1, 2])
@pytest.mark.parametrize("target", ["onnx-fp32", "openvino-fp32", "ncnn-fp32"])
def test_many_pictures_keep_their_order(target: str, streams: int, artifact: GetArtifact) -> None:
    options = RuntimeOptions(2, streams, PREPROCESSES["scaled"])
    given = pictures(3, *[1, 5, 2, 9, 3] * 8)
    with open_rnet(target, artifact, options) as runtime:
        for have, pixels in zip(runtime.run_pictures(iter(given)), given, strict=True):
            assert_same(have, runtime.run({"image": PREPROCESSES["scaled"].tensor(pixels)}))


WRONG: dict[str, Any] = {
    "float": np.zeros((1, 24, 24, 3), np.float32),
    "planes first": np.zeros((1, 3, 24, 24), np.uint8),
    "no batch": np.zeros((24, 24, 3), np.uint8),
    "another size": np.zeros((1, 25, 24, 3), np.uint8),
    "no picture": np.zeros((0, 24, 24, 3), np.uint8),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("target", ["torch-fp32", "openvino-fp32", "ncnn-fp32"])
def test_wrong_pictures_are_refused(target: str, wrong: str, artifact: GetArtifact) -> None:
    with open_rnet(target, artifact) as runtime:
        with pytest.raises(InputError, match="rnet takes"):
            runtime.run_pictures([WRONG[wrong]])
        assert len(runtime.run_pictures(pictures(4, 2))) == 1


@pytest.mark.parametrize("target", ["torch-fp32", "openvino-fp32"])
def test_pictures_are_read_lazily_and_errors_pass_through(target: str, artifact: GetArtifact) -> None:
    def source() -> Iterator[Pixels]:
        yield from pictures(5, 2, 2)
        msg = "the camera is gone"
        raise OSError(msg)

    with open_rnet(target, artifact) as runtime:
        with pytest.raises(OSError, match="the camera is gone"):
            runtime.run_pictures(source())
        assert len(runtime.run_pictures(pictures(6, 1, 1))) == 2


@pytest.mark.parametrize("target", ["torch-fp32", "openvino-fp32"])
def test_strided_and_read_only_pictures(target: str, artifact: GetArtifact) -> None:
    (pixels,) = pictures(7, 4)
    flipped = pixels[:, :, ::-1]
    locked = pixels.copy()
    locked.flags.writeable = False
    with open_rnet(target, artifact) as runtime:
        have = runtime.run_pictures([flipped, locked])
        want = runtime.run_pictures([np.ascontiguousarray(flipped), pixels])
    for a, b in zip(have, want, strict=True):
        assert_same(a, b)


@pytest.mark.parametrize("target", ["torch-fp32", "openvino-fp32", "ncnn-fp32"])
def test_closed(target: str, artifact: GetArtifact) -> None:
    runtime = open_rnet(target, artifact)
    runtime.close()
    with pytest.raises(FacedeployError, match="closed"):
        runtime.run_pictures(pictures(8, 1))
