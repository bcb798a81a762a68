"""What is drawn on a picture."""

from __future__ import annotations

import numpy as np
import pytest

from facedeploy.core.face import Face
from facedeploy.core.preprocess import Image
from facedeploy.pipelines.draw import draw

BLANK = np.full((800, 800, 3), 255, np.uint8)
BOX = (200.0, 200.0, 600.0, 600.0)
RED, GREEN, BLUE = (60, 60, 230), (80, 200, 60), (230, 120, 50)  # BGR
Angles = tuple[float, float, float]


def posed(yaw: float = 0, pitch: float = 0, roll: float = 0) -> Image:
    return draw(BLANK, [Face(BOX, 0.9, None, yaw, pitch, roll)])


def reach(picture: Image, colour: tuple[int, int, int]) -> tuple[int, int]:
    """How far a line of this colour goes right and down from the middle, in pixels."""
    inside = picture[210:590, 210:590]  # Without the box and the label.
    y, x = np.nonzero(np.abs(inside.astype(int) - colour).max(axis=2) < 8)
    far = int(np.argmax(np.hypot(x - 190, y - 190)))
    return int(x[far]) - 190, int(y[far]) - 190


def test_picture_itself_is_not_drawn_on() -> None:
    before = BLANK.copy()
    assert (posed() != BLANK).any()
    np.testing.assert_array_equal(before, BLANK)


def test_head_that_looks_at_the_camera() -> None:
    (red_x, red_y), (green_x, green_y) = reach(posed(), RED), reach(posed(), GREEN)
    assert red_x > 180 > 5 >= abs(red_y)
    assert green_y > 180 > 5 >= abs(green_x)


@pytest.mark.parametrize(
    ("angles", "right", "down"),
    [((30, 0, 0), -1, 0), ((-30, 0, 0), 1, 0), ((0, 30, 0), 0, -1), ((0, -30, 0), 0, 1), ((30, 30, 0), -1, -1)],
    ids=str,
)
def test_nose_points_where_the_head_looks(angles: Angles, right: int, down: int) -> None:
    """Positive yaw is to the left of the picture and positive pitch up, as in the data that the model learned from."""
    x, y = reach(posed(*angles), BLUE)
    for value, sign in ((x, right), (y, down)):
        assert value * sign > 60 if sign else abs(value) <= 5


def test_positive_roll_is_clockwise() -> None:
    x, y = reach(posed(roll=30), RED)
    assert x > 0
    assert y > 60
    x, y = reach(posed(roll=30), GREEN)
    assert x < -60
    assert y > 0


@pytest.mark.parametrize("face", [Face(BOX, 0.9), Face(BOX, 0.9, None, 10.0, None, 0.0)])
def test_face_without_a_pose_has_no_axes(face: Face) -> None:
    inside = draw(BLANK, [face])[210:590, 210:590]
    assert (inside == 255).all()
