"""What is no picture is refused in a sentence, and what that sentence says to write makes a picture."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from facedeploy.core.errors import InputError
from facedeploy.core.picture_check import check_picture, check_pictures
from facedeploy.core.preprocess import Image

BGR = np.random.default_rng(3).integers(0, 256, (6, 8, 3)).astype(np.uint8)
BGR[0, 0] = 0, 128, 255
UNIT, GREY = BGR / 255, cv2.cvtColor(BGR, cv2.COLOR_BGR2GRAY)
GREYS = cv2.cvtColor(GREY, cv2.COLOR_GRAY2BGR)
_ALPHA = cv2.cvtColor(BGR, cv2.COLOR_BGR2BGRA)
MASK = GREY > 127


# What is given, the words that name it, and the picture that comes of doing what the message says.
MADE: dict[str, tuple[Any, str, Any]] = {
    "float 0..1": (UNIT, "(6, 8, 3) float64, from 0 to 1: give (image * 255)", BGR),
    "float32 0..1": (UNIT.astype(np.float32), "float32, from 0 to 1", BGR),
    "float 0..255": (BGR.astype(np.float32), "(6, 8, 3) float32, from 0 to 255", BGR),
    "int64": (BGR.astype(np.int64), "int64, from 0 to 255", BGR),
    "16 bits": (BGR.astype(np.uint16) * 257, "uint16, of 16 bits", BGR),
    "grey": (GREY, "(6, 8) uint8, grey: give cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)", GREYS),
    "grey with a channel": (GREY[..., None], "(6, 8, 1) uint8, grey", GREYS),
    "grey float": (GREY / 255, "(6, 8) float64, from 0 to 1, grey", GREYS),
    "mask": (MASK, "(6, 8) bool, grey", np.repeat(MASK[..., None], 3, axis=2) * np.uint8(255)),
    "alpha": (_ALPHA, "(6, 8, 4) uint8, with alpha: give cv2.cvtColor(image, cv2.COLOR_BGRA2BGR)", BGR),
    "alpha, float": (_ALPHA / 255, "(6, 8, 4) float64, from 0 to 1, with alpha", BGR),
    "channels first": (BGR.transpose(2, 0, 1), "(3, 6, 8) uint8, with its channels first", BGR),
    "channels first, float": (UNIT.transpose(2, 0, 1), "(3, 6, 8) float64, from 0 to 1, with its channels first", BGR),
    "batch": (BGR[None], "(1, 6, 8, 3) uint8, a batch of pictures: give image[0]", BGR),
    "encoded": (cv2.imencode(".png", BGR)[1].tobytes(), "bytes", BGR),
    "tensor": (torch.from_numpy(BGR.transpose(2, 0, 1).copy()), "a tensor of PyTorch", BGR),
    "rows of pixels": (BGR.tolist(), "a list: give np.array(image, np.uint8)", BGR),
}


@pytest.mark.parametrize("case", MADE)
def test_what_the_message_says_makes_a_picture(case: str) -> None:
    image, words, wanted = MADE[case]
    with pytest.raises(InputError) as refused:
        check_picture(image)
    assert words in str(refused.value)
    assert str(refused.value).startswith("a picture is an array (H, W, 3) uint8, BGR, and this is ")
    said = re.search(r"give ((?:[^,(]|\([^()]*(?:\([^()]*(?:\([^()]*\)[^()]*)*\)[^()]*)*\))+)", str(refused.value))
    assert said, refused.value
    expression = said[1].partition(" if ")[0]
    made = check_picture(eval(expression, {"cv2": cv2, "np": np}, {"image": image}))
    np.testing.assert_array_equal(made, wanted)


NOTHING: dict[str, tuple[Any, str]] = {
    "None": (None, "None, which cv2.imread gives for a file that it cannot read: check the path"),
    "str": ("face.png", "a path: read it with cv2.imread('face.png'), or take facedeploy.detect"),
    "Path": (Path("face.png"), "a path: read it with cv2.imread('face.png')"),
    "empty": (BGR[:0], "(0, 8, 3) uint8, which has no pixels: check what cut or read it"),
    "empty float": (np.zeros((6, 0), np.float32), "(6, 0) float32, which has no pixels: check what cut or read it"),
    "normalised": (UNIT * 2 - 1, "from -1 to 1: undo its normalisation"),
    "large": (BGR * 1e6, "scale it, as pixels are 0 to 255"),
    "not finite": (np.full((6, 8, 3), np.nan), "with values that are not finite"),
    "words": (np.array([["a"]]), "holds no numbers of pixels"),
    "two channels": (BGR[..., :2], "which is no picture, with 3 axes of these lengths"),
    "a row": (BGR.ravel(), "which is no picture, with 1 axis of these lengths"),
    "pictures": ([BGR, BGR], "a list of pictures: give one of them, or all to detect_batch"),
    "capture.read()": ((True, BGR), "a tuple (bool, image), as a cv2.VideoCapture reads: give its second part"),
    "number": (3, "of the type int"),
    "object": (object(), "of the type object"),
}


@pytest.mark.parametrize("case", NOTHING)
def test_what_cannot_be_made_one_is_named(case: str) -> None:
    image, words = NOTHING[case]
    with pytest.raises(InputError, match=re.escape(words)) as refused:
        check_picture(image)
    assert "\n" not in str(refused.value)


def test_pillow_pictures_are_told_how(tmp_path: Path) -> None:
    pillow = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    assert cv2.imwrite(str(tmp_path / "it.png"), _ALPHA)
    with pillow.open(tmp_path / "it.png") as image:
        with pytest.raises(InputError, match="a picture of Pillow: give ") as refused:
            check_picture(image)
        expression = str(refused.value).partition("give ")[2]
        made = check_picture(eval(expression, {"np": np}, {"image": image}))
    np.testing.assert_array_equal(made, BGR)


@pytest.mark.parametrize(
    "change",
    [lambda a: a, lambda a: a[:, ::-1], lambda a: a[..., ::-1], lambda a: a[1:3], np.asfortranarray],
    ids=["whole", "mirrored", "rgb", "part", "fortran"],
)
def test_a_picture_is_the_same_array(change: Callable[[Image], Image]) -> None:
    image = change(BGR)
    assert check_picture(image) is image


def test_large_pictures_are_not_looked_at() -> None:
    """No pixel is read: 100 megapixels take as long as one."""
    small, large = BGR[:1, :1], np.empty((10_000, 10_000, 3), np.uint8)

    def seconds(image: Image) -> float:
        start = time.perf_counter()
        for _ in range(1000):
            check_picture(image)
        return time.perf_counter() - start

    assert min(seconds(large) for _ in range(5)) < 10 * min(seconds(small) for _ in range(5))


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (BGR, "detect_batch takes a list of pictures, and this is one of them"),
        (GREY, "this is one of them"),
        ("faces", "and this is a path"),
        (None, "and this is None"),
        (3, "of the type int"),
    ],
    ids=str,
)
def test_a_batch_is_several_pictures(images: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        check_pictures(images)
