"""What is drawn on a picture."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facedeploy.core.face import Face
from facedeploy.core.preprocess import Image
from facedeploy.pipelines.draw import draw
from facedeploy.pipelines.draw_labels import place_labels

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


def line_width(picture: Image, box: tuple[float, float, float, float]) -> int:
    """Pixels of the box's left edge, half way down, that are not white."""
    y, x = round((box[1] + box[3]) / 2), round(box[0])
    reach = round((box[2] - box[0]) / 3)
    return int((picture[y, max(0, x - reach) : x + reach] < 250).any(axis=1).sum())


def resized(box: tuple[float, float, float, float], factor: float) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = (factor * v for v in box)
    return x1, y1, x2, y2


def test_lines_grow_with_the_picture() -> None:
    """The same face fills the same part of each picture, and so does its line."""
    widths, labels = [], []
    for factor in (0.2, 1.0, 3.0, 9.6):  # 160 to 7680 pixels.
        side, box = round(800 * factor), resized((300, 300, 400, 400), factor)
        face = Face(box, 0.9)
        widths.append(line_width(draw(np.full((side, side, 3), 255, np.uint8), [face]), box))
        (label,) = place_labels([face], side, side)
        labels.append((label.plate[3] - label.plate[1]) / side)
    assert widths == sorted(widths)
    assert widths[0] <= 3
    assert widths[-1] >= 3 * widths[1]
    assert widths[-1] / 7680 >= 1 / 1500  # Seen on a screen that shows all of the picture.
    assert min(labels[1:]) > 0.01


def test_a_small_face_in_a_large_picture_is_not_all_line() -> None:
    box = (2000.0, 2000.0, 2030.0, 2030.0)
    assert line_width(draw(np.full((4320, 7680, 3), 255, np.uint8), [Face(box, 0.9)]), box) <= 5


def overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] <= b[2] and b[0] <= a[2] and a[1] <= b[3] and b[1] <= a[3]


def test_overlap_is_seen() -> None:
    """The control of the test below."""
    assert overlap((0, 0, 10, 10), (10, 10, 20, 20))
    assert not overlap((0, 0, 10, 10), (11, 0, 20, 20))


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.floats(-50, 700), st.floats(-50, 500), st.floats(0, 200), st.floats(0, 1)), max_size=40),
    st.sampled_from([(640, 480), (12, 9), (1, 1), (7680, 4320)]),
    st.booleans(),
)
def test_labels_hide_nothing_and_stay_inside(
    kinds: list[tuple[float, float, float, float]], size: tuple[int, int], classed: bool
) -> None:
    width, height = size
    factor = width / 640
    faces = [
        Face(resized((x, y, x + s, y + s), factor), score, classes={"a long name": 0.9, "b": 0.1} if classed else None)
        for x, y, s, score in kinds
    ]
    labels = place_labels(faces, width, height)
    for i, label in enumerate(labels):
        x1, y1, x2, y2 = label.plate
        assert 0 <= x1 < x2 < width
        assert 0 <= y1 < y2 < height
        assert not any(overlap(label.plate, other.plate) for other in labels[:i])
        assert sum(overlap(label.plate, face.box) for face in faces) <= 1  # Its own, where it stands inside.
    if height < 1000:
        assert draw(np.zeros((height, width, 3), np.uint8), faces).shape == (height, width, 3)


def test_text_stays_on_its_plate() -> None:
    for factor in (0.3, 1.0, 9.6):
        side, face = round(800 * factor), Face(resized(BOX, factor), 0.88, classes={"mask": 0.9})
        (label,) = place_labels([face], side, side)
        assert label.text == "0.88 mask"
        picture = draw(np.full((side, side, 3), 255, np.uint8), [face])
        dark = np.argwhere((picture < 60).all(axis=2))
        x1, y1, x2, y2 = label.plate
        assert len(dark) > 10
        assert (dark >= (y1, x1)).all()
        assert (dark <= (y2, x2)).all()


def test_what_does_not_fit_is_left_out() -> None:
    def texts(side: float, **more: object) -> list[str]:
        face = Face((100, 100, 100 + side, 100 + side), 0.88, **more)  # type: ignore[arg-type]
        return [label.text for label in place_labels([face], 640, 480)]

    assert texts(100, classes={"no mask": 1.0}) == ["0.88 no mask"]
    assert texts(25, classes={"no mask": 1.0}) == ["0.88"]
    assert texts(9) == []


def test_the_largest_of_a_dense_crowd_are_labelled() -> None:
    """Sixteen pixels apart there is no room between faces; one that stands alone has its score all the same."""
    crowd = [Face((16.0 * i, 16.0 * j + 100, 16 * i + 15, 16 * j + 115), 0.7) for i in range(40) for j in range(20)]
    alone = Face((300.0, 30.0, 340.0, 70.0), 0.9)
    labels = place_labels([*crowd, alone], 640, 480)
    assert labels[0].text == "0.90"
    assert len(labels) < 60
