"""Whole evaluations of real artifacts: the same numbers however they are come by, and no picture looked at twice."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from facedeploy.artifact.folder import MANIFEST, Artifact, describe_file, write_manifest
from facedeploy.benchmarks.accuracy.answer_cache import Store
from facedeploy.benchmarks.accuracy.datasets import Dataset, parse_dataset
from facedeploy.benchmarks.accuracy.evaluate import evaluate
from facedeploy.benchmarks.accuracy.evaluated_pipeline import EvaluatedPipeline
from facedeploy.benchmarks.record import Score
from facedeploy.core.errors import ArtifactError, BackendUnavailableError, InputError
from facedeploy.core.hashing import code_digest
from facedeploy.core.serialization import from_plain, to_plain
from facedeploy.export.exporter import export
from facedeploy.metrics.interval import Interval
from facedeploy.metrics.labelled_images import Detections
from tests.support import own_networks
from tests.support.exported import tiny
from tests.support.records import bounded

PHOTO = Path(__file__).parents[2] / "examples" / "astronaut.jpg"
FACE = np.array([174.0, 63, 276, 168])  # Of the astronaut, in pixels of the photo.
SIZE = (120, 160)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default model for small pictures."""
    return shutil.copytree(tiny("onnx-fp32", SIZE).path, tmp_path_factory.mktemp("good") / "good")


@pytest.fixture(scope="module")
def poor(good: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with noise on its weights, as if it had been compiled badly."""
    target = tmp_path_factory.mktemp("poor") / "poor"
    shutil.copytree(good, target)
    manifest = Artifact.open(target).manifest
    detector = manifest.network("detector")
    file = target / detector.files["onnx"].path
    model = onnx.load(file)
    rng = np.random.default_rng(0)
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.ndim == 4:
            noisy = values * (1 + 0.5 * rng.standard_normal(values.shape))
            tensor.CopyFrom(numpy_helper.from_array(noisy.astype(values.dtype), tensor.name))
    onnx.save(model, file)
    files = {"onnx": describe_file(target, detector.files["onnx"].path)}
    networks = tuple(replace(n, files=files) if n is detector else n for n in manifest.networks)
    write_manifest(target, replace(manifest, networks=networks))
    return target


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine photos of one face in many sizes and places, one of none, and the table of their boxes."""
    home = tmp_path_factory.mktemp("album")
    photo = cv2.imread(str(PHOTO))
    assert photo is not None
    rng = np.random.default_rng(0)
    rows = ["image,xmin,ymin,xmax,ymax"]
    for number in range(9):
        scale = rng.uniform(0.25, 0.6)
        shift = -FACE[:2] * scale + rng.uniform((5, 5), (80, 50))
        view = cv2.warpAffine(photo, np.column_stack([np.eye(2) * scale, shift]), (160, 120), borderValue=(90, 90, 90))
        cv2.imwrite(str(home / f"{number}.png"), view)
        rows.append(f"{number}.png," + ",".join(f"{v:.2f}" for v in FACE * scale + np.tile(shift, 2)))
    cv2.imwrite(str(home / "none.png"), np.full((120, 160, 3), 90, np.uint8))
    (home / "boxes.csv").write_text("\n".join([*rows, "none.png,,,,"]) + "\n")
    return home


@pytest.fixture(scope="module")
def boxes(album: Path) -> Dataset:
    return parse_dataset(f"csv:{album / 'boxes.csv'}")


@pytest.fixture(scope="module")
def plain(good: Path, poor: Path, album: Path, boxes: Dataset) -> tuple[Score, ...]:
    """What one process finds, which keeps nothing: what every other way must find too."""
    return evaluate([good, poor], [boxes, parse_dataset(f"pytorch:{album}")], processes=1)


def by_name(scores: tuple[Score, ...]) -> dict[tuple[str, str], Score]:
    return {(s.measure, s.artifact): s for s in scores}


def test_a_poor_artifact_is_told_from_a_good_one(plain: tuple[Score, ...], album: Path) -> None:
    found = by_name(plain)
    one, other = found["AP", "good"], found["AP", "poor"]
    assert (one.dataset, one.unit, one.pictures, one.faces) == ("csv:boxes.csv", "points", 10, 9)
    assert one.value.value > 90
    assert one.change is None
    assert bounded(other.change).value == other.value.value - one.value.value
    assert bounded(other.change).high < 0
    same, off = found["AP to PyTorch", "good"], found["AP to PyTorch", "poor"]
    assert same.dataset == f"pytorch:{album.name}"
    assert same.value.value == bounded(same.value).high == 100
    assert bounded(same.value).low == pytest.approx(100 * 0.025 ** (1 / same.faces))
    assert off.value.value < 100
    for name in ("box 1-IoU to PyTorch", "landmarks (box) to PyTorch", "angles to PyTorch"):
        assert bounded(found[name, "good"].value).high < 0.01
    # A record takes them as they are.
    assert tuple(from_plain(Score, data) for data in json.loads(json.dumps(to_plain(plain), allow_nan=False))) == plain


def test_the_same_artifact_twice_differs_in_nothing(
    good: Path, boxes: Dataset, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(good, copy)
    scores = evaluate([good, copy], [boxes], processes=1)
    assert scores[1].change == Interval(0.0, 0.0, 0.0)
    assert capfd.readouterr().err == ""  # No progress bar where no person watches.


def test_processes_find_the_same(good: Path, poor: Path, album: Path, boxes: Dataset, plain: tuple[Score, ...]) -> None:
    assert evaluate([good, poor], [boxes, parse_dataset(f"pytorch:{album}")], processes=2) == plain


@pytest.mark.slow
def test_a_local_ray_of_two_workers_finds_the_same(
    good: Path, poor: Path, album: Path, boxes: Dataset, plain: tuple[Score, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # Else it writes a token into the user's home.
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    sets = [boxes, parse_dataset(f"pytorch:{album}")]
    assert evaluate([good, poor], sets, processes=2, ray="local") == plain


def test_a_cluster_that_is_not_there(good: Path, boxes: Dataset) -> None:
    pytest.importorskip("ray")
    with pytest.raises(InputError, match=r"no Ray cluster answers at 127\.0\.0\.1:9"):
        evaluate([good], [boxes], ray="127.0.0.1:9")


def test_without_ray_the_extra_is_named(good: Path, boxes: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(BackendUnavailableError, match=r"facedeploy\[ray\]"):
        evaluate([good], [boxes], ray="local")


# --------------------------------------------------------------------------------- answers that are kept


def answers(work: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(work.iterdir())}


def test_what_is_known_is_not_computed_again(good: Path, boxes: Dataset, tmp_path: Path) -> None:
    first = evaluate([good], [boxes], processes=1, work=tmp_path)
    ((name, content),) = answers(tmp_path).items()
    assert name.startswith("good-")
    assert len(content.splitlines()) == 10
    # A face that was never there, in the middle: if that is what counts, nobody looked at the picture again.
    lines = [json.loads(line) for line in content.splitlines()]
    lines[4] = {**lines[4], "boxes": [[0, 0, 9, 9]], "scores": [0.99]}
    (tmp_path / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    second = evaluate([good], [boxes], processes=1, work=tmp_path)
    assert second[0].value.value < first[0].value.value
    assert len(answers(tmp_path)[name].splitlines()) == 10


@pytest.mark.parametrize(
    "tear",
    [
        lambda content: content[:-40],  # In the middle of the last line.
        lambda content: content[: content.index(b"\n", 3000) + 1],
        lambda content: content.replace(b'"version": 1', b'"version": 0', 3),
        lambda content: content.replace(b'"scores"', b'"Scores"', 2),
        lambda content: content.replace(b'"width": 160', b'"width": "wide"', 1),
        lambda content: b"\x00\xff" + content,
        lambda content: b"",
        lambda content: b"[" * 100_000 + b"\n" + content,
    ],
)
def test_a_torn_file_is_mended(
    tear: Callable[[bytes], bytes], good: Path, boxes: Dataset, plain: tuple[Score, ...], tmp_path: Path
) -> None:
    evaluate([good], [boxes], processes=1, work=tmp_path)
    ((name, content),) = answers(tmp_path).items()
    (tmp_path / name).write_bytes(tear(content))
    assert evaluate([good], [boxes], processes=1, work=tmp_path)[0] == by_name(plain)["AP", "good"]
    with Store(tmp_path, "good", name.removesuffix(".jsonl").removeprefix("good-").ljust(64)) as store:
        assert store.path.name == name
        assert len(store.found) == 10


def test_a_run_that_was_killed_goes_on(good: Path, tmp_path: Path) -> None:
    """With all that was found by then kept, to the byte."""
    photo = cv2.imread(str(PHOTO))
    assert photo is not None
    for number in range(150):
        (tmp_path / "many").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "many" / f"{number}.jpg"), np.roll(photo, 3 * number, axis=1))
    (tmp_path / "boxes.csv").write_text(
        "image,xmin,ymin,xmax,ymax\n"
        + "".join(f"{n}.jpg,174,63,276,168\n" for n in range(60))
        + "".join(f"{n}.jpg,,,,\n" for n in range(60, 150))
    )
    text = f"csv:{tmp_path / 'boxes.csv'},images={tmp_path / 'many'}"
    work = tmp_path / "work"
    code = (
        "import sys; from pathlib import Path\n"
        "from facedeploy.benchmarks.accuracy.datasets import parse_dataset\n"
        "from facedeploy.benchmarks.accuracy.evaluate import evaluate\n"
        "evaluate([Path(sys.argv[1])], [parse_dataset(sys.argv[2])], processes=1, work=Path(sys.argv[3]))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    run = subprocess.Popen([sys.executable, "-c", code, str(good), text, str(work)], env=environment)
    while run.poll() is None and not any(
        c.count(b"\n") >= 5 for c in (answers(work) if work.is_dir() else {}).values()
    ):
        time.sleep(0.005)
    run.send_signal(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    ((name, before),) = answers(work).items()
    assert 5 <= before.count(b"\n") < 150
    dataset = parse_dataset(text)
    resumed = evaluate([good], [dataset], processes=2, work=work)
    after = answers(work)[name]
    whole = before[: before.rindex(b"\n") + 1]
    assert after.startswith(whole)
    pictures = [json.loads(line)["picture"] for line in after.splitlines()]
    assert len(pictures) == len(set(pictures)) == 150
    assert resumed == evaluate([good], [dataset], processes=1)


def test_answers_of_other_options_and_artifacts_are_others(
    good: Path, poor: Path, boxes: Dataset, plain: tuple[Score, ...], tmp_path: Path
) -> None:
    evaluate([poor], [boxes], processes=1, work=tmp_path)
    evaluate([good], [boxes], processes=1, work=tmp_path, options={"score_threshold": 0.6})
    assert evaluate([good], [boxes], processes=1, work=tmp_path)[0] == by_name(plain)["AP", "good"]
    assert len(answers(tmp_path)) == 3


def test_a_limit_computes_what_it_needs_and_no_more(good: Path, boxes: Dataset, tmp_path: Path) -> None:
    (some,) = evaluate([good], [boxes], processes=1, work=tmp_path, limit=4)
    assert (some.pictures, some.faces) == (4, 4)
    ((name, before),) = answers(tmp_path).items()
    assert before.count(b"\n") == 4
    evaluate([good], [boxes], processes=1, work=tmp_path)
    assert answers(tmp_path)[name].startswith(before)


def test_two_runs_do_not_write_one_file(good: Path, boxes: Dataset, tmp_path: Path) -> None:
    evaluate([good], [boxes], processes=1, work=tmp_path)
    ((name, _),) = answers(tmp_path).items()
    held = Store(tmp_path, "good", name.removesuffix(".jsonl").removeprefix("good-"))
    with held, pytest.raises(InputError, match=r"another run is writing .*good-.*jsonl: wait"):
        evaluate([good], [boxes], processes=1, work=tmp_path)


def test_what_is_stored_comes_back_to_the_bit(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    full = Detections(
        7, 9, rng.normal(size=(3, 4)), rng.random(3), rng.normal(size=(3, 68, 2)), rng.normal(size=(3, 3))
    )
    none = Detections(7, 9, np.zeros((0, 4)), np.zeros(0))
    with Store(tmp_path, "a name/../../with: all", "k" * 64) as store:
        store.add("full", full)
        store.add("none", none)
    assert store.path.parent == tmp_path
    with Store(tmp_path, "a name/../../with: all", "k" * 64) as store:
        for name, made in {"full": full, "none": none}.items():
            for array in ("boxes", "scores", "points", "angles"):
                np.testing.assert_array_equal(getattr(store.found[name], array), getattr(made, array))


def test_a_folder_that_cannot_be_written(good: Path, boxes: Dataset, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot write answers to .*file"):
        evaluate([good], [boxes], work=tmp_path / "file")


def test_the_key_is_of_all_that_answers_depend_on(good: Path, poor: Path, tmp_path: Path) -> None:
    config = Artifact.open(good).manifest.pipeline.config
    moved = tmp_path / "moved"
    shutil.copytree(good, moved)
    mine = EvaluatedPipeline(good, config)
    assert EvaluatedPipeline(moved, config).key() == mine.key()
    others = [
        EvaluatedPipeline(poor, config),
        EvaluatedPipeline(good, {**config, "score_threshold": 0.9}),
        EvaluatedPipeline(good, config, runtime="onnxruntime"),
        EvaluatedPipeline(good, config, details=False),
    ]
    assert len({d.key() for d in [mine, *others]}) == 5
    assert len(code_digest()) == 64


# --------------------------------------------------------------------------------- mistakes


def test_labels_of_other_pictures_end_the_run(good: Path, album: Path, tmp_path: Path) -> None:
    (tmp_path / "boxes.csv").write_text("image,width,height,xmin,ymin,xmax,ymax\n0.png,320,240,1,2,30,40\n")
    with pytest.raises(InputError, match=r"says that 0\.png has 320x240 pixels, and it has 160x120"):
        evaluate([good], [parse_dataset(f"csv:{tmp_path / 'boxes.csv'},images={album}")], processes=1)
    (tmp_path / "boxes.csv").write_text("image,xmin,ymin,xmax,ymax\n0.png,161,2,170,40\n")
    with pytest.raises(InputError, match=r"box 1 of 0\.png, .* lies outside of the picture of 160x120"):
        evaluate([good], [parse_dataset(f"csv:{tmp_path / 'boxes.csv'},images={album}")], processes=1)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_picture_that_cannot_be_read_is_named(processes: int, good: Path, album: Path, tmp_path: Path) -> None:
    shutil.copytree(album, tmp_path / "album")
    (tmp_path / "album" / "3.png").write_bytes(b"no picture")
    dataset = parse_dataset(f"csv:{tmp_path / 'album' / 'boxes.csv'}")
    with pytest.raises(InputError, match=r"3\.png is not a picture"):
        evaluate([good], [dataset], processes=processes, work=tmp_path / "work")
    shutil.copy(album / "3.png", tmp_path / "album" / "3.png")
    kept = sum(c.count(b"\n") for c in answers(tmp_path / "work").values())
    assert evaluate([good], [dataset], processes=processes, work=tmp_path / "work")
    assert kept >= (3 if processes == 1 else 0)


def test_nothing_to_do(good: Path, boxes: Dataset) -> None:
    for artifacts, sets, processes in ([], [boxes], 0), ([good], [], 0), ([good], [boxes], -1):
        with pytest.raises(InputError, match="at least one artifact and one data set"):
            evaluate(artifacts, sets, processes=processes)


def test_pictures_of_which_none_has_a_face(good: Path, album: Path, tmp_path: Path) -> None:
    (tmp_path / "boxes.csv").write_text("image,xmin,ymin,xmax,ymax\nnone.png,,,,\n0.png,1,2,30,40\n")
    dataset = parse_dataset(f"csv:{tmp_path / 'boxes.csv'},images={album}")
    with pytest.raises(InputError, match=r"nothing can be measured on csv:.*none of its 1 pictures has a face"):
        evaluate([good], [dataset], processes=1, limit=1)


def test_what_is_no_artifact_is_said_before_any_work(good: Path, boxes: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="is not an artifact"):
        evaluate([good, tmp_path / "none"], [boxes], work=tmp_path / "work")
    with pytest.raises(InputError, match="has no option 'brightness'"):
        evaluate([good], [boxes], work=tmp_path / "work", options={"brightness": 3})
    assert not (tmp_path / "work").exists()


def test_an_artifact_without_faces(boxes: Dataset, tmp_path: Path) -> None:
    made = export(str(own_networks.plain(tmp_path / "own.onnx")), "onnx-fp32", output=tmp_path / "own")
    with pytest.raises(InputError, match=r"own gives tensors and no faces.*\[outputs\]"):
        evaluate([made.path], [boxes])


def test_pytorch_must_be_the_one_that_it_was_made_from(good: Path, album: Path, tmp_path: Path) -> None:
    (tmp_path / "other.pth").write_bytes(b"something else")
    dataset = parse_dataset(f"pytorch:{album},weights={tmp_path / 'other.pth'}")
    with pytest.raises(InputError, match=r"other\.pth is not the checkpoint of"):
        evaluate([good], [dataset], work=tmp_path / "work")
    assert not (tmp_path / "work").exists()


def test_a_changed_file_of_the_artifact_is_noticed(good: Path, boxes: Dataset, tmp_path: Path) -> None:
    shutil.copytree(good, tmp_path / "good")
    file = next(f for f in (tmp_path / "good").iterdir() if f.name != MANIFEST)
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ArtifactError):
        evaluate([tmp_path / "good"], [boxes])
