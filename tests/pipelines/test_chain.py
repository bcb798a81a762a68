"""One artifact that holds a detector and what looks at its faces."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

import facedeploy
from facedeploy.artifact.folder import MANIFEST, Artifact
from facedeploy.calibration.quantize_plan import Int8Options
from facedeploy.calibration.table import read_table
from facedeploy.core.errors import ArtifactError, InputError
from facedeploy.core.hashing import sha256
from facedeploy.core.images import read_picture
from facedeploy.core.synthetic_faces import portrait
from facedeploy.pipelines.make_chain import make_chain
from tests.cli import test_cli
from tests.cli.test_cli import Run
from tests.support.crop_networks import crop_network
from tests.support.own_networks import BOXES, decoded

run = test_cli.run

POINTS = np.linspace(0.2, 0.8, 12)
WHO = np.linspace(-1, 1, 16)
DETECTOR = 'check = false\n[outputs]\nboxes = "boxes"\nscores = "scores"\nboxes_in = "unit"\n'


class Kit:
    """Artifacts to chain, and the files that they were made from."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.detector = self._made(decoded(folder / "finder.onnx"), DETECTOR)
        points = crop_network(folder / "points.onnx", {"out": POINTS})
        self.points = self._made(points, "[crop]\ngrow = 1.2\n[meaning.points]\n")
        who = crop_network(folder / "who.onnx", {"out": WHO})
        self.who = self._made(who, "[meaning.embedding]\n")
        aligned = crop_network(folder / "aligned.onnx", {"out": WHO})
        self.aligned = self._made(aligned, '[crop]\nalign = "arcface"\n[meaning.embedding]\n')
        self.picture = folder / "picture.png"
        cv2.imwrite(str(self.picture), portrait(np.random.default_rng(0), 160))
        self.chain = make_chain(self.detector, [self.points, self.who], folder / "app").path

    def _made(self, path: Path, settings: str) -> Path:
        path.with_suffix(".toml").write_text(settings)
        return facedeploy.export(str(path), "onnx-fp32", output=path.with_suffix("")).path

    @property
    def files(self) -> list[Path]:
        return [self.folder / f"{name}.onnx" for name in ("who", "points", "finder")]


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    return Kit(tmp_path_factory.mktemp("chain"))


def test_a_chain_gives_what_its_parts_give(kit: Kit, run: Run) -> None:
    want = facedeploy.detect(kit.detector, kit.picture, with_=[kit.points, kit.who])
    assert len(want) > 1
    assert all(len(f.landmarks or ()) == 6 and len(f.embedding or ()) == 16 for f in want)
    assert facedeploy.detect(kit.chain, kit.picture) == want
    (said,) = run("detect", kit.chain, kit.picture, "--json").objects
    assert said["faces"] == json.loads(json.dumps([f.to_dict() for f in want]))
    first = want[0]
    side = 1.2 * max(first.box[2] - first.box[0], first.box[3] - first.box[1])
    middle = np.array([first.box[0] + first.box[2], first.box[1] + first.box[3]]) / 2
    assert np.abs(np.array(first.landmarks) - middle - (POINTS.reshape(-1, 2) - 0.5) * side).max() < 0.01


def test_a_chain_says_what_it_is(kit: Kit) -> None:
    opened = Artifact.open(kit.chain)
    assert list(opened.parts) == ["detector", "points", "who"]
    assert [n.spec.name for n in opened.manifest.networks] == ["detector/network", "points/network", "who/network"]
    assert opened.manifest.model == "finder+points+who"
    assert opened.size == sum(part.size for part in opened.parts.values())
    for _, part, network in opened.compiled():
        assert (part.path / network.files["onnx"].path).is_file()


def test_a_chain_can_look_at_more(kit: Kit, tmp_path: Path) -> None:
    short = make_chain(kit.detector, [kit.points], tmp_path / "short")
    found = facedeploy.detect(short, kit.picture, with_=[kit.who])
    assert found == facedeploy.detect(kit.chain, kit.picture)


def test_options_and_threshold_are_the_detectors(kit: Kit) -> None:
    every = facedeploy.detect(kit.chain, kit.picture, options={"score_threshold": 0.1, "nms": 1.0})
    assert len(every) == len(BOXES)
    best = facedeploy.detect(kit.chain, kit.picture, threshold=0.85)
    assert len(best) == 1
    with pytest.raises(InputError, match="no option 'nose'"):
        facedeploy.detect(kit.chain, kit.picture, options={"nose": 1})


def test_a_chain_is_verified_part_by_part(kit: Kit, run: Run) -> None:
    result = run("verify", kit.chain, *[v for f in kit.files for v in ("--weights", f)], "--images", kit.picture)
    assert result.status == 0, result
    assert "points/network.out" in result.out
    assert "who/network.out" in result.out
    run("verify", kit.chain, "--weights", kit.files[0]).refused("give --weights the file that", "detector")
    run("verify", kit.points, *[v for f in kit.files for v in ("--weights", f)]).refused("give --weights once")


def test_a_chain_is_measured_as_one(kit: Kit) -> None:
    record = facedeploy.benchmark(
        [kit.chain, kit.detector], [kit.picture], rounds=2, cold=False, streams=2, layers=True
    )
    chain, detector = record.measurements
    assert len(chain.found[0]) == len(detector.found[0])
    assert {layer.network for layer in chain.layers} == {"detector/network", "points/network", "who/network"}
    assert chain.digest != detector.digest


def test_a_chain_is_one_artifact_on_disk(kit: Kit, run: Run, tmp_path: Path) -> None:
    result = run("chain", kit.detector, "--with", kit.points, "-o", tmp_path / "made")
    assert result.status == 0
    assert "detector, points" in result.out
    moved = tmp_path / "elsewhere"
    (tmp_path / "made").rename(moved)
    assert facedeploy.detect(moved, kit.picture)


def damaged(kit: Kit, tmp_path: Path) -> Path:
    return Path(shutil.copytree(kit.chain, tmp_path / "copy"))


def change_chain(folder: Path, name: str, digest: str) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["parts"][name] = digest
    (folder / MANIFEST).write_text(json.dumps(manifest))


def outside(folder: Path) -> None:
    shutil.copytree(folder / "who", folder.parent / "who")
    shutil.rmtree(folder / "points")
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["parts"] = {"detector": manifest["parts"]["detector"], "../who": manifest["parts"]["who"]}
    (folder / MANIFEST).write_text(json.dumps(manifest))


def linked(folder: Path) -> None:
    (folder / "who").rename(folder.parent / "who")
    (folder / "who").symlink_to(folder.parent / "who")


def swapped(folder: Path) -> None:
    shutil.rmtree(folder / "who")
    shutil.copytree(folder / "points", folder / "who")


def nested(folder: Path) -> None:
    whole = Path(shutil.copytree(folder, folder.parent / "whole"))
    shutil.rmtree(folder / "who")
    whole.rename(folder / "who")
    change_chain(folder, "who", sha256(folder / "who" / MANIFEST))


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (outside, "is not a folder of the chain"),
        (linked, "is not a folder of the chain"),
        (nested, "is a chain itself"),
        (swapped, "is not the artifact that the chain was made of"),
        (lambda folder: shutil.rmtree(folder / "who"), "who is missing"),
        (lambda folder: (folder / "who" / "network.onnx").unlink(), "network.onnx is missing"),
        (lambda folder: (folder / "who" / "network.onnx").write_bytes(b"?"), "is not the file that was exported"),
        (lambda folder: change_chain(folder, "who", "0" * 64), "is not the artifact that the chain was made of"),
        (lambda folder: (folder / MANIFEST).write_text('{"format": "facedeploy-chain", "version": 9}'), "version 9"),
        (lambda folder: (folder / MANIFEST).write_text('{"format": "facedeploy-chain"}'), "not a manifest of a chain"),
    ],
)
def test_a_damaged_chain_is_refused(damage: Callable[[Path], object], sentence: str, kit: Kit, tmp_path: Path) -> None:
    folder = damaged(kit, tmp_path)
    damage(folder)
    with pytest.raises(ArtifactError, match=sentence):
        Artifact.open(folder)


def test_what_cannot_be_a_chain(kit: Kit, run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def refused(*words: object) -> str:
        return run("chain", *words, "-o", out).refused()

    assert "finds no faces" in refused(kit.points, "--with", kit.who)
    assert "does not look at faces already found" in refused(kit.detector, "--with", kit.detector)
    assert "both" in refused(kit.detector, "--with", kit.who, "--with", kit.who)
    assert "give --with an artifact" in refused(kit.detector)
    assert "chain of chains" in refused(kit.chain, "--with", kit.aligned)
    assert "is a chain, and finds its own faces" in refused(kit.detector, "--with", kit.chain)
    assert "looks at aligned crops" in refused(kit.detector, "--with", kit.aligned)
    assert "not an artifact" in refused(kit.detector, "--with", tmp_path / "missing")
    assert not out.exists()


def test_what_a_chain_is_not_for(kit: Kit, run: Run, tmp_path: Path) -> None:
    run("package", kit.chain, "--cpp", tmp_path / "app").refused("detector is for onnx-fp32", "--target ncnn-fp16")
    run("package", kit.chain, "--ios", tmp_path / "app").refused("is a chain, which Kotlin and Swift do not run")
    run("build", kit.chain).refused("needs no build")
    run("detect", kit.points, kit.picture).refused("finds no faces", "--with")
    run("detect", kit.detector, kit.picture, "--with", kit.detector).refused("--with takes a network with a [meaning]")
    run("detect", kit.detector, kit.picture, "--with", kit.aligned).refused("five points")
    assert read_picture(kit.picture).shape == (160, 160, 3)


# --- int8 of a network that looks at faces ---


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(1)
    for i in range(12):
        cv2.imwrite(str(folder / f"{i}.png"), portrait(rng, 120))
    return folder


def test_int8_is_calibrated_on_the_crops_of_a_detector_and_judged_in_its_own_unit(
    kit: Kit, pictures: Path, tmp_path: Path
) -> None:
    int8 = Int8Options(calibration=pictures, detector=kit.detector, count=30, force=True)
    made = facedeploy.export(str(kit.folder / "points.onnx"), "openvino-int8", output=tmp_path / "int8", int8=int8)
    calibration = made.manifest.calibration
    assert calibration is not None
    # Of two faces in each of twelve pictures, a fifth is judged on.
    assert calibration.pictures == 24 - 5
    assert calibration.loss is not None
    assert calibration.loss.ap is None
    assert calibration.loss.landmarks is not None
    assert calibration.loss.landmarks < 1
    alone = Int8Options(calibration=pictures, force=True)
    again = facedeploy.export(str(kit.folder / "points.onnx"), "openvino-int8", output=tmp_path / "alone", int8=alone)
    assert again.manifest.calibration is not None
    assert again.manifest.calibration.digest != calibration.digest


def test_what_detector_is_not_for(kit: Kit, pictures: Path, run: Run, tmp_path: Path) -> None:
    words = ("--images", pictures, "--no-sensitivity", "-o", tmp_path / "table.json")
    finder, points = kit.folder / "finder.onnx", kit.folder / "points.onnx"
    run("calibrate", finder, *words, "--detector", kit.detector).refused("--detector is for a network that looks")
    run("calibrate", points, *words, "--detector", kit.points).refused("finds no faces")
    assert run("calibrate", points, *words, "--detector", kit.detector).status == 0
    export = ("export", points, "--target", "openvino-int8", "-o", tmp_path / "made")
    table = tmp_path / "table.json"
    run(*export, "--calibration", table, "--detector", kit.detector).refused("a table has its ranges already")


def test_a_chain_is_calibrated_as_one(kit: Kit, pictures: Path, run: Run, tmp_path: Path) -> None:
    files = [word for file in kit.files for word in ("--weights", file)]
    calibrate = ("calibrate", kit.chain, "--images", pictures)
    out = tmp_path / "ranges"
    told = run(*calibrate, *files, "-o", out)
    assert told.status == 0
    assert sorted(p.name for p in out.iterdir()) == ["detector.json", "points.json", "who.json"]
    assert "landmarks %" in told.out
    (said,) = run(*calibrate, *files, "--no-sensitivity", "-o", tmp_path / "again", "--json").objects
    assert list(said["parts"]) == ["detector", "points", "who"]
    # Each is what the part gets alone, on the crops that the detector gives it.
    alone = ("calibrate", kit.folder / "points.onnx", "--images", pictures, "--no-sensitivity")
    assert run(*alone, "--detector", kit.detector, "-o", tmp_path / "points.json").status == 0
    assert read_table(out / "points.json") == read_table(tmp_path / "points.json")
    export = ("export", kit.folder / "points.onnx", "--target", "openvino-int8", "--force", "-o", tmp_path / "made")
    assert run(*export, "--calibration", out / "points.json").status == 0


def test_how_a_chain_is_not_calibrated(kit: Kit, pictures: Path, run: Run, tmp_path: Path) -> None:
    calibrate = ("calibrate", kit.chain, "--images", pictures, "-o", tmp_path / "ranges")
    files = [word for file in kit.files for word in ("--weights", file)]
    run(*calibrate).refused("give --weights the file", "finder.onnx")
    run(*calibrate, *files, "--family", "scrfd").refused("is a chain", "leave --family out")
    run(*calibrate, *files, "--chart", tmp_path / "x.png").refused("leave --chart out")
    run("calibrate", kit.folder / "finder.onnx", "--images", pictures, *files).refused("give --weights once")
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine").touch()
    run(*calibrate[:-1], full, *files).refused("not an empty folder")
    assert not (tmp_path / "ranges").exists()
