"""Every kind of picture becomes (H, W, 3) uint8 BGR; what is none is refused by name."""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from facedeploy.core.errors import InputError
from facedeploy.core.images import PICTURES, VIDEOS, expand, frames, read_picture
from facedeploy.core.synthetic_faces import group_photo, portrait

Pixels = NDArray[Any]


@pytest.fixture(scope="module")
def picture() -> Pixels:
    """Wider than high and not symmetric, so that no turn of it looks like another."""
    return group_photo(np.random.default_rng(7), 48, 96, 2)


def write(path: Path, pixels: Pixels) -> Path:
    assert cv2.imwrite(str(path), pixels)
    return path


def refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_picture(path)
    return names(caught.value, path)


def names(error: InputError, path: Path) -> str:
    message = str(error)
    assert str(path) in message
    assert "\n" not in message
    assert not re.search(r"[.!?] [A-Z]", message), message
    return message


def exif(jpeg: bytes, orientation: int) -> bytes:
    """Put an EXIF segment with one tag, Orientation (0x0112, SHORT), behind the JPEG's first marker."""
    tiff = struct.pack("<2sHIH", b"II", 42, 8, 1) + struct.pack("<HHIHHI", 0x0112, 3, 1, orientation, 0, 0)
    segment = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + jpeg[2:]


def close(a: Pixels, b: Pixels) -> bool:
    """Equal but for the losses of JPEG, which are near 3 here; a flip of the picture is 20 away."""
    return a.shape == b.shape and float(np.abs(a.astype(int) - b.astype(int)).mean()) < 5


@pytest.mark.parametrize("suffix", sorted(PICTURES))
def test_every_format_reads(tmp_path: Path, picture: Pixels, suffix: str) -> None:
    image = read_picture(write(tmp_path / f"p{suffix}", picture))
    assert image.dtype == np.uint8
    assert close(image, picture)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp"])
def test_one_pixel(tmp_path: Path, suffix: str) -> None:
    image = read_picture(write(tmp_path / f"p{suffix}", np.full((1, 1, 3), 90, np.uint8)))
    assert image.shape == (1, 1, 3)
    assert image.tolist() == [[[90, 90, 90]]]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_grey_becomes_three_equal_channels(tmp_path: Path, picture: Pixels, suffix: str) -> None:
    image = read_picture(write(tmp_path / f"p{suffix}", picture[..., 1]))
    assert close(image, np.repeat(picture[..., 1:2], 3, axis=2))
    np.testing.assert_array_equal(image[..., 0], image[..., 2])


def test_alpha_is_dropped_and_does_not_darken(tmp_path: Path, picture: Pixels) -> None:
    alpha = np.zeros((*picture.shape[:2], 1), np.uint8)
    image = read_picture(write(tmp_path / "p.png", np.concatenate([picture, alpha], axis=2)))
    np.testing.assert_array_equal(image, picture)


def test_sixteen_bits_become_eight(tmp_path: Path, picture: Pixels) -> None:
    image = read_picture(write(tmp_path / "p.png", picture.astype(np.uint16) * 257))
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, picture)


@pytest.mark.parametrize(
    ("orientation", "turned"),
    [
        (1, lambda p: p),
        (2, np.fliplr),
        (3, lambda p: np.rot90(p, 2)),
        (4, np.flipud),
        (5, lambda p: p.transpose(1, 0, 2)),
        (6, lambda p: np.rot90(p, -1)),
        (7, lambda p: np.rot90(p, 2).transpose(1, 0, 2)),
        (8, np.rot90),
    ],
)
def test_exif_orientation_is_applied(tmp_path: Path, picture: Pixels, orientation: int, turned: Any) -> None:
    """The eight values of the EXIF specification (2.32, 4.6.4.A): where row 0 and column 0 are shown."""
    written, jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 98])
    assert written
    path = tmp_path / "p.jpg"
    path.write_bytes(exif(jpeg.tobytes(), orientation))
    image = read_picture(path)
    assert close(image, turned(picture))
    assert orientation == 1 or not close(image, picture)


def test_content_decides_and_not_the_name(tmp_path: Path, picture: Pixels) -> None:
    png = write(tmp_path / "p.png", picture)
    np.testing.assert_array_equal(read_picture(png.rename(tmp_path / "p.jpg")), picture)


def test_name_with_spaces_and_umlauts(tmp_path: Path, picture: Pixels) -> None:
    path = tmp_path / "Straße 1, größer.png"
    write(tmp_path / "p.png", picture).rename(path)
    np.testing.assert_array_equal(read_picture(path), picture)


def test_text_with_the_name_of_a_picture(tmp_path: Path) -> None:
    path = tmp_path / "p.jpg"
    path.write_text("this is no picture")
    assert ".png" in refused(path)


def test_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "p.png"
    path.touch()
    refused(path)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp"])
@pytest.mark.parametrize("kept", [0.9, 0.5, 0.1])
def test_truncated(tmp_path: Path, suffix: str, kept: float) -> None:
    """Half a picture would be searched, and the missing faces would be nobody's fault."""
    path = write(tmp_path / f"p{suffix}", portrait(np.random.default_rng(1), 96))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    refused(path)


def test_missing_file(tmp_path: Path) -> None:
    assert "there is no" in refused(tmp_path / "absent.png")


def test_a_folder_is_no_picture(tmp_path: Path) -> None:
    refused(tmp_path)


def test_a_folder_is_searched_to_the_bottom_and_sorted(tmp_path: Path, picture: Pixels) -> None:
    for name in ("b.png", "a.jpg", "sub/c.BMP", "sub/deep/d.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write(tmp_path / Path(name).with_suffix(Path(name).suffix.lower()), picture).rename(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / "folder.png").mkdir()
    found = [p.relative_to(tmp_path).as_posix() for p in expand([tmp_path])]
    assert found == ["a.jpg", "b.png", "sub/c.BMP", "sub/deep/d.png"]


def test_files_stay_in_the_order_given(tmp_path: Path, picture: Pixels) -> None:
    (tmp_path / "sub").mkdir()
    z, a = write(tmp_path / "z.png", picture), write(tmp_path / "a.png", picture)
    inner = write(tmp_path / "sub" / "m.png", picture)
    assert expand([z, tmp_path / "sub", a]) == [z, inner, a]


@pytest.mark.parametrize("content", [None, "notes.txt"], ids=["empty", "no picture"])
def test_folder_without_pictures(tmp_path: Path, content: str | None) -> None:
    if content:
        (tmp_path / content).write_text("not a picture")
    with pytest.raises(InputError) as caught:
        expand([tmp_path])
    assert "holds no picture" in names(caught.value, tmp_path)


def test_path_that_does_not_exist(tmp_path: Path, picture: Pixels) -> None:
    with pytest.raises(InputError) as caught:
        expand([write(tmp_path / "p.png", picture), tmp_path / "absent"])
    names(caught.value, tmp_path / "absent")


def film(path: Path, shots: Sequence[Pixels]) -> Path:
    height, width = shots[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (width, height))
    assert writer.isOpened()
    for shot in shots:
        writer.write(shot)
    writer.release()
    return path


def test_video_gives_its_frames_in_order(tmp_path: Path, picture: Pixels) -> None:
    shots = [np.roll(picture, 16 * i, axis=1) for i in range(4)]
    path = film(tmp_path / "v.avi", shots)
    found = list(frames([path]))
    assert [(f.path, f.number) for f in found] == [(path, i) for i in range(4)]
    for frame, shot in zip(found, shots, strict=True):
        assert frame.image.dtype == np.uint8
        assert frame.image.shape == shot.shape
        assert min(range(4), key=lambda i: np.abs(frame.image.astype(int) - shots[i]).mean()) == frame.number


def test_pictures_and_videos_mix(tmp_path: Path, picture: Pixels) -> None:
    still, video = write(tmp_path / "p.png", picture), film(tmp_path / "v.avi", [picture, picture])
    found = [(f.path, f.number) for f in frames([still, video, still])]
    assert found == [(still, None), (video, 0), (video, 1), (still, None)]


def test_suffix_of_a_video_in_capitals(tmp_path: Path, picture: Pixels) -> None:
    path = film(tmp_path / "v.avi", [picture]).rename(tmp_path / "V.AVI")
    assert [f.number for f in frames([path])] == [0]


def test_frames_are_read_one_by_one(tmp_path: Path, picture: Pixels) -> None:
    """The second file is broken, and nobody has asked for it yet."""
    good, bad = write(tmp_path / "p.png", picture), tmp_path / "q.png"
    bad.write_text("not a picture")
    stream = frames([good, bad])
    assert next(stream).path == good
    with pytest.raises(InputError, match=r"q\.png"):
        next(stream)


@pytest.mark.parametrize("suffix", sorted(VIDEOS))
@pytest.mark.parametrize("content", [b"", b"this is no video" * 100], ids=["empty", "text"])
def test_garbage_with_the_name_of_a_video(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], suffix: str, content: bytes
) -> None:
    path = tmp_path / f"v{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        list(frames([path]))
    assert "is not a video" in names(caught.value, path)
    assert capfd.readouterr().out == ""


def test_missing_video(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        list(frames([tmp_path / "absent.mp4"]))
    names(caught.value, tmp_path / "absent.mp4")
