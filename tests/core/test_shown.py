"""What a notebook, and a person at a prompt, sees of faces and of drawn pictures."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import cv2
import numpy as np
import pytest

import facedeploy
from facedeploy.core.face import Face

IMAGE = np.random.default_rng(1).integers(0, 256, (60, 90, 3)).astype(np.uint8)
FACE = Face((10.04, 10.06, 50, 50), 0.98765, ((20.0, 20.0),) * 5, 12.34, -3.0, 0.25)


def shown(image: Any) -> Any:
    png = image._repr_png_()
    assert png.startswith(b"\x89PNG")
    return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)


def test_a_drawn_picture_is_an_array_that_shows_itself() -> None:
    drawn = facedeploy.draw(IMAGE, [FACE])
    assert isinstance(drawn, np.ndarray)
    assert drawn.any() and not np.array_equal(drawn, IMAGE)
    np.testing.assert_array_equal(shown(drawn), drawn)
    np.testing.assert_array_equal(shown(drawn[5:30, 40:10:-1]), drawn[5:30, 40:10:-1])
    np.testing.assert_array_equal(shown(facedeploy.draw(drawn, [])), drawn)
    for same in (pickle.loads(pickle.dumps(drawn)), copy.deepcopy(drawn)):
        np.testing.assert_array_equal(shown(same), drawn)


def test_what_is_made_of_it_and_is_no_picture_shows_as_numbers() -> None:
    drawn: Any = facedeploy.draw(IMAGE, [])
    for other in (drawn / 255, drawn[..., 0], drawn[:0], drawn > 3, drawn[None]):
        assert other._repr_png_() is None
    assert drawn.max() == IMAGE.max()


def test_a_large_one_is_shown_smaller() -> None:
    large = np.zeros((3000, 1500, 3), np.uint8)
    large[:, 750:] = 200
    drawn = facedeploy.draw(large, [])
    assert drawn.shape == large.shape
    seen = shown(drawn)
    assert seen.shape == (2000, 1000, 3)
    assert (seen[:, :499] == 0).all() and (seen[:, 501:] == 200).all()


def test_ipython_takes_it_for_a_picture() -> None:
    formatters = pytest.importorskip("IPython.core.formatters", reason="IPython is not installed")
    data, _ = formatters.DisplayFormatter().format(facedeploy.draw(IMAGE, [FACE]))
    assert "image/png" in data


@pytest.mark.parametrize(
    ("face", "words"),
    [
        (
            FACE,
            "<Face: box (10.0, 10.1, 50.0, 50.0), score 0.988, 5 landmarks, yaw 12.3, pitch -3.0, roll 0.2>",
        ),
        (Face((0, 0, 1, 1), 1), "<Face: box (0.0, 0.0, 1.0, 1.0), score 1.000>"),
        (
            Face((0, 0, 1, 1), 0.5, embedding=(0.0,) * 512, classes={"mask": 0.25}),
            "<Face: box (0.0, 0.0, 1.0, 1.0), score 0.500, embedding of 512, mask 0.25>",
        ),
    ],
    ids=["all", "box", "looked at"],
)
def test_a_face_prints_on_one_line(face: Face, words: str) -> None:
    assert repr(face) == words
