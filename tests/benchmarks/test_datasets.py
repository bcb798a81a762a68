"""Readers of data sets: what they give, and the one sentence for each mistake in what they are given."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from facedeploy.benchmarks.accuracy.datasets import KINDS, parse_dataset
from facedeploy.benchmarks.accuracy.pose_and_landmarks import Portraits
from facedeploy.benchmarks.accuracy.tasks import Reference
from facedeploy.core.errors import InputError
from facedeploy.metrics.labelled_images import Detections, check_size
from tests.support.mat_files import write_mat


def picture(path: Path, width: int = 40, height: int = 30) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((height, width, 3), 90, np.uint8))
    return path


def refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as said:
        parse_dataset(text)
    assert "\n" not in str(said.value)


@pytest.mark.parametrize("text", ["", "csv", "csv:", "voc:somewhere", "somewhere", "CSV:a.csv"])
def test_an_unknown_kind_is_answered_with_all_kinds(text: str) -> None:
    refused(text, r"is no data set; give one of " + ".*".join(f"{kind}:" for kind in KINDS))


def test_an_unknown_option_is_answered_with_all_options(tmp_path: Path) -> None:
    refused(f"csv:{tmp_path / 'a.csv'},imges={tmp_path}", "csv has no option 'imges'; options are images")
    refused(f"aflw2000:{tmp_path},images=x", "aflw2000 has no option 'images'; it has none")


def test_a_limit_is_spread_over_all_pictures(tmp_path: Path) -> None:
    for number in range(10):
        picture(tmp_path / f"{number}.png")
    dataset = parse_dataset(f"pytorch:{tmp_path}")
    assert [p.name for p in dataset.limited(4).pictures] == ["0.png", "2.png", "5.png", "7.png"]
    assert dataset.limited(None) is dataset
    assert dataset.limited(10) is dataset
    with pytest.raises(InputError, match="at least 1, not 0"):
        dataset.limited(0)


# --------------------------------------------------------------------------------- tables


def table(home: Path, text: str) -> Path:
    picture(home / "a.png")
    picture(home / "sub" / "b.png")
    path = home / "boxes.csv"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("header", "rows"),
    [
        ("image,xmin,ymin,xmax,ymax", ("1,2,11,22", "5,6,15,16")),
        ("Name,x1,y1,x2,y2", ("1,2,11,22", "5,6,15,16")),
        ("FILENAME , x , y , w , h", (" 1 ,2,10,20", "5,6,10,10")),
    ],
)
def test_a_table_of_boxes(header: str, rows: tuple[str, str], tmp_path: Path) -> None:
    path = table(tmp_path, f"\ufeff{header}\na.png,{rows[0]}\nsub/b.png,,,,\na.png,{rows[1]}\n")
    dataset = parse_dataset(f"csv:{path}")
    assert dataset.name == "csv:boxes.csv"
    first, second = dataset.pictures
    assert (first.name, second.name) == ("a.png", "sub/b.png")
    assert first.boxes.tolist() == [[1, 2, 11, 22], [5, 6, 15, 16]]
    assert second.boxes.shape == (0, 4)
    assert second.path == tmp_path / "sub" / "b.png"


def test_columns_of_a_table_that_say_more(tmp_path: Path) -> None:
    """Ignored boxes, and the size of the picture, which is not that of the box."""
    text = "image,width,height,xmin,ymin,xmax,ymax,ignore,label\na.png,40,30,1,2,41,22,,x\na.png,40,30,0,0,9,9,true,y\n"
    (first,) = parse_dataset(f"csv:{table(tmp_path, text)}").pictures
    assert first.boxes.tolist() == [[1, 2, 41, 22]]  # It hangs over the edge, and stays as it is.
    assert first.ignored.tolist() == [[0, 0, 9, 9]]
    assert first.size == (40, 30)


HEAD = "image,xmin,ymin,xmax,ymax\n"
SIZED = "image,width,height,xmin,ymin,xmax,ymax\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "needs a column image and .*it has no header"),
        ("image,left,top\na.png,1,2\n", "needs a column image and the columns xmin.*it has image, left, top"),
        (HEAD, r"boxes\.csv labels no face"),
        (HEAD + "a.png,,,,\n", r"boxes\.csv labels no face"),
        (HEAD + "a.png,1,2,three,4\n", r"line 2: xmax must be a number, not 'three'"),
        (HEAD + "a.png,1,2,nan,4\n", r"box 1 of a\.png, .* is not made of numbers"),
        (HEAD + "a.png,1,2,3\n", r"line 2: ymax must be a number, not ''"),
        (
            HEAD + "a.png,1,2,9,9\na.png,5,5,5,9\n",
            r"box 2 of a\.png, \(5, 5, 5, 9\) .* has no area: correct or remove it",
        ),
        (HEAD + "a.png,9,2,3,9\n", r"box 1 of a\.png, .* has no area"),
        (HEAD + "a.png,-9,2,-3,9\n", r"box 1 of a\.png, .* lies outside of the picture"),
        (SIZED + "a.png,40,30,40,2,60,9\n", r"box 1 of a\.png, .* lies outside of the picture of 40x30"),
        (
            HEAD + "c.png,1,2,3,4\n",
            r"a picture that .*boxes\.csv names is missing: .*c\.png: give their folder with images=",
        ),
        (HEAD + "c.png,1,2,3,4\nd.png,1,2,3,4\n", r"2 of 2 pictures that .* are missing, such as .*c\.png"),
        (HEAD + "../a.png,1,2,3,4\n", r"names the picture '\.\./a\.png', which is not a path inside"),
        (HEAD + "/etc/passwd,1,2,3,4\n", r"is not a path inside"),
        (HEAD + ",1,2,3,4\n", r"names the picture '', which"),
    ],
)
def test_mistakes_in_a_table(text: str, message: str, tmp_path: Path) -> None:
    refused(f"csv:{table(tmp_path, text)}", message)


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    refused(f"csv:{tmp_path / 'none.csv'}", r"cannot read the table .*none\.csv")


def test_pictures_of_a_table_may_lie_elsewhere(tmp_path: Path) -> None:
    picture(tmp_path / "photos" / "a.png")
    path = tmp_path / "labels" / "boxes.csv"
    path.parent.mkdir()
    path.write_text(HEAD + "a.png,1,2,3,4\n")
    (first,) = parse_dataset(f"csv:{path},images={tmp_path / 'photos'}").pictures
    assert first.path == tmp_path / "photos" / "a.png"


@pytest.mark.parametrize(("size", "message"), [((20, 15), "has 40x30 pixels, and it has 20x15"), ((40, 30), "")])
def test_pictures_of_another_size_are_found_out_when_they_are_seen(
    size: tuple[int, int], message: str, tmp_path: Path
) -> None:
    path = table(tmp_path, SIZED + "a.png,40,30,1,2,3,4\n")
    (first,) = parse_dataset(f"csv:{path}").pictures
    found = Detections(*size, np.zeros((0, 4)), np.zeros(0))
    if message:
        with pytest.raises(InputError, match=message):
            check_size(first, found, path)
    else:
        check_size(first, found, path)


def test_a_box_outside_is_found_out_when_the_picture_is_seen(tmp_path: Path) -> None:
    path = table(tmp_path, HEAD + "a.png,50,2,60,9\n")
    (first,) = parse_dataset(f"csv:{path}").pictures
    with pytest.raises(InputError, match=r"box 1 of a\.png, \(50, 2, 60, 9\) .* lies outside of the picture of 40x30"):
        check_size(first, Detections(40, 30, np.zeros((0, 4)), np.zeros(0)), path)


# --------------------------------------------------------------------------------- JSON


def labels_of(home: Path, change: Callable[[dict[str, Any]], object] = lambda data: None) -> Path:
    picture(home / "a.png")
    data: dict[str, Any] = {
        "images": [
            {"id": 7, "file_name": "a.png", "width": 40, "height": 30},
            {"id": 9, "file_name": "sub/b.png"},
        ],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 1, "bbox": [1, 2, 10, 20]},
            {"id": 2, "image_id": 7, "category_id": 1, "bbox": [20, 2, 10, 20], "iscrowd": 1},
        ],
        "categories": [{"id": 1, "name": "head"}],
    }
    picture(home / "sub" / "b.png")
    change(data)
    path = home / "labels.json"
    path.write_text(json.dumps(data))
    return path


def test_boxes_as_in_coco(tmp_path: Path) -> None:
    first, second = parse_dataset(f"coco:{labels_of(tmp_path)}").pictures
    assert first.boxes.tolist() == [[1, 2, 11, 22]]
    assert first.ignored.tolist() == [[20, 2, 30, 22]]
    assert (first.size, second.size) == ((40, 30), None)
    assert second.boxes.shape == (0, 4)


def add_category(data: dict[str, Any], *names: str) -> None:
    data["categories"] += [{"id": i, "name": n} for i, n in enumerate(names, 2)]
    data["annotations"].append({"image_id": 9, "category_id": 2, "bbox": [1, 1, 5, 5]})


def test_of_several_categories_faces_are_measured(tmp_path: Path) -> None:
    path = labels_of(tmp_path, lambda data: add_category(data, "face"))
    assert [len(p.boxes) for p in parse_dataset(f"coco:{path}").pictures] == [0, 1]
    assert [len(p.boxes) for p in parse_dataset(f"coco:{path},category=head").pictures] == [1, 0]
    refused(f"coco:{path},category=hat", r"its categories are head, face: give category=")
    path = labels_of(tmp_path, lambda data: add_category(data, "hat"))
    refused(f"coco:{path}", r"its categories are head, hat: give category=")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("images"), "'images' is missing"),
        (lambda d: d["annotations"][0].update(image_id=1), "1 is missing, or names a picture that is not in it"),
        (lambda d: d["annotations"][0].update(bbox=[1, 2, 3]), r"bbox of a\.png must be 4 numbers"),
        (lambda d: d["annotations"][0].update(bbox=[1, 2, "3", 4]), r"bbox of a\.png must be 4 numbers"),
        (lambda d: d["annotations"][0].update(bbox=[1, 2, -3, 4]), r"box 1 of a\.png, .* has no area"),
        (lambda d: d["annotations"][0].update(bbox=[100, 2, 3, 4]), r"lies outside of the picture of 40x30"),
        (lambda d: d["images"][0].update(file_name=5), "file_name must be a value of type str"),
        (lambda d: d["images"][0].update(file_name="../a.png"), "is not a path inside"),
        (lambda d: d["images"][0].update(file_name="c.png"), r"is missing: .*c\.png"),
        (lambda d: d["annotations"].clear(), "labels no face"),
        (lambda d: d.update(annotations=3), "is no file of COCO's format"),
        (lambda d: d.update(images=[], annotations=[]), "labels no face"),
    ],
)
def test_mistakes_in_json(change: Callable[[dict[str, Any]], object], message: str, tmp_path: Path) -> None:
    refused(f"coco:{labels_of(tmp_path, change)}", message)


@pytest.mark.parametrize("text", ["[", "[]", "3", '{"images": []}'])
def test_other_json(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text)
    refused(f"coco:{tmp_path / 'a.json'}", r"a\.json")


# --------------------------------------------------------------------------------- points


def points(home: Path, size: int, change: Callable[[dict[str, Any]], object] = lambda data: None) -> Path:
    def add(data: dict[str, Any]) -> None:
        rng = np.random.default_rng(size)
        for number, annotation in enumerate(data["annotations"]):
            spots = np.column_stack([rng.uniform(1, 28, (size, 2)), np.full(size, 2.0)])
            annotation["keypoints"] = spots.ravel().tolist() if number == 0 else [0] * 3 * size
        change(data)

    return labels_of(home, add)


@pytest.mark.parametrize(("size", "normalisation"), [(5, "box"), (68, "outer-eyes"), (106, "hull")])
def test_points_as_in_coco(size: int, normalisation: str, tmp_path: Path) -> None:
    """A face without points, and so a picture without such a face, is left out."""
    dataset = parse_dataset(f"landmarks:{points(tmp_path, size)}")
    (first,) = dataset.pictures
    assert first.points is not None
    assert first.scale is not None
    assert first.points.shape == (1, size, 2)
    assert first.boxes.tolist() == [[1, 2, 11, 22]]
    assert dataset.task == Portraits(normalisation=normalisation, required=True)  # type: ignore[arg-type]
    other = parse_dataset(f"landmarks:{tmp_path / 'labels.json'},normalise=eyes")
    assert other.pictures[0].scale is not None
    assert other.pictures[0].scale.tolist() != first.scale.tolist()


def hide(data: dict[str, Any], *numbers: int, box: bool = True) -> None:
    if not box:
        del data["annotations"][0]["bbox"]
    for number in numbers:
        data["annotations"][0]["keypoints"][3 * number + 2] = 0


def test_points_that_are_not_visible_are_not_numbers(tmp_path: Path) -> None:
    (first,) = parse_dataset(f"landmarks:{points(tmp_path, 68, lambda d: hide(d, 0, 5))}").pictures
    assert first.points is not None
    assert np.flatnonzero(np.isnan(first.points[0, :, 0])).tolist() == [0, 5]


def test_without_a_box_there_is_one_around_the_points(tmp_path: Path) -> None:
    path = points(tmp_path, 68, lambda d: hide(d, 3, box=False))
    (first,) = parse_dataset(f"landmarks:{path}").pictures
    assert first.points is not None
    assert first.boxes.tolist()[0][:2] == np.nanmin(first.points[0], axis=0).tolist()


@pytest.mark.parametrize(
    ("size", "change", "options", "message"),
    [
        (19, lambda d: None, "", "has faces of 19 points; all must have 5, 68 or 106"),
        (68, lambda d: d["annotations"][0].pop("keypoints"), "", "has faces of no points"),
        (68, lambda d: d["annotations"][0].update(keypoints=[1, 2, 3, 4]), "", "must be whole triples of numbers"),
        (68, lambda d: hide(d, 36), "", r"a face of a\.png has no outer-eyes to divide by"),
        (5, lambda d: None, ",normalise=outer-eyes", "5 points have no outer-eyes: give normalise=box"),
        (68, lambda d: None, ",normalise=nose", "normalise takes outer-eyes, eyes, box, hull, not 'nose'"),
    ],
)
def test_mistakes_in_points(
    size: int, change: Callable[[dict[str, Any]], object], options: str, message: str, tmp_path: Path
) -> None:
    refused(f"landmarks:{points(tmp_path, size, change)}{options}", message)


@pytest.mark.parametrize(("name", "size"), [("300w", 68), ("lapa", 106), ("coco_wholebody", 0), ("wflw", 98)])
def test_published_samples(name: str, size: int, assets: Path) -> None:
    path = assets / "images" / "mmpose_samples" / name / f"test_{name}.json"
    if size not in (68, 106):
        refused(f"landmarks:{path}", "has faces of (17|98) points")
        return
    dataset = parse_dataset(f"landmarks:{path}")
    assert len(dataset.pictures) == 2
    assert all(p.points is not None and p.points.shape[1:] == (size, 2) for p in dataset.pictures)


# --------------------------------------------------------------------------------- AFLW2000-3D


def portraits(home: Path, count: int = 3) -> Path:
    for number in range(count):
        picture(home / f"image{number:05}.jpg", 450, 450)
        spots = np.random.default_rng(number).uniform(100, 300, (3, 68)).astype("f4")
        pose = np.array([[0.1, -0.2, np.radians(100 if number == 2 else 30), 5, 6, 7, 8]], "f4")
        write_mat(home / f"image{number:05}.mat", {"Pose_Para": pose, "pt3d_68": spots, "roi": np.zeros((1, 4))})
    return home


@pytest.mark.parametrize("folder", ["", "AFLW2000"])
def test_portraits(folder: str, tmp_path: Path) -> None:
    portraits(tmp_path / folder)
    dataset = parse_dataset(f"aflw2000:{tmp_path}")
    first, _, third = dataset.pictures
    assert first.angles is not None
    assert first.angles.tolist() == [pytest.approx(np.degrees([-0.2, 0.1, np.radians(30)]).tolist(), abs=1e-5)]
    assert first.points is not None
    expected = np.random.default_rng(0).uniform(100, 300, (3, 68))[:2].T
    np.testing.assert_allclose(first.points[0], expected, atol=1e-4)
    np.testing.assert_allclose(first.boxes[0], [*expected.min(axis=0), *expected.max(axis=0)], atol=1e-4)
    assert third.angles is not None
    assert third.angles[0, 2] == pytest.approx(100)  # Counted for its points and not for its pose.


def test_portraits_that_are_not_there(tmp_path: Path) -> None:
    where = "AFLW2000-3D is had from the 3DDFA project page"
    refused(f"aflw2000:{tmp_path / 'none'}", f"there is no folder .*none: {where}")
    refused(f"aflw2000:{tmp_path}", f"has no picture to measure on: {where}")
    portraits(tmp_path)
    (tmp_path / "image00001.jpg").unlink()
    refused(f"aflw2000:{tmp_path}", rf"names is missing: .*image00001\.jpg: {where}")
    picture(tmp_path / "image00001.jpg")
    write_mat(tmp_path / "image00001.mat", {"Pose_Para": np.zeros((1, 7)), "pt3d_68": np.zeros((3, 67))})
    refused(f"aflw2000:{tmp_path}", r"image00001\.mat is not a label of AFLW2000-3D")
    (tmp_path / "image00001.mat").write_bytes(b"nothing")
    refused(f"aflw2000:{tmp_path}", r"image00001\.mat is no MATLAB file of version 5")


def test_the_published_half_of_the_portraits(assets: Path) -> None:
    dataset = parse_dataset(f"aflw2000:{assets / 'images' / 'aflw2000'}")
    assert len(dataset.pictures) == 1000
    angles = np.concatenate([p.angles for p in dataset.pictures if p.angles is not None])
    assert (np.abs(angles) <= 99).all(axis=1).sum() == 979


# --------------------------------------------------------------------------------- pictures without labels


def test_pictures_without_labels(tmp_path: Path) -> None:
    picture(tmp_path / "b.png")
    picture(tmp_path / "sub" / "a.png")
    (tmp_path / "note.txt").touch()
    dataset = parse_dataset(f"pytorch:{tmp_path},weights=w.pth,factory=a.b:c")
    assert [p.name for p in dataset.pictures] == ["b.png", "sub/a.png"]
    assert dataset.task.reference == Reference(Path("w.pth"), "a.b:c")
    assert parse_dataset(f"pytorch:{tmp_path / 'b.png'}").pictures[0].name == "b.png"


def test_an_empty_folder(tmp_path: Path) -> None:
    refused(f"pytorch:{tmp_path}", "holds no picture")
    refused(f"pytorch:{tmp_path / 'none'}", "there is no file or folder")
    (tmp_path / "a.mp4").touch()
    refused(f"pytorch:{tmp_path / 'a.mp4'}", "has no picture to measure on: give a folder of pictures")
