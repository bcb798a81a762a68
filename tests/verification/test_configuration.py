"""A value of a manifest that somebody edits is found: by its digest, and where that was made to fit, by `verify`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from facedeploy.artifact.chain import DETECTOR
from facedeploy.artifact.digest import digest_of
from facedeploy.artifact.folder import MANIFEST, Artifact, write_chain, write_manifest
from facedeploy.core.errors import ArtifactError
from facedeploy.core.synthetic_faces import group_photo
from facedeploy.export.exporter import export
from facedeploy.pipelines.make_chain import make_chain
from facedeploy.verification.verify import Verification, verify
from tests.cli import test_cli
from tests.cli.test_cli import Run
from tests.conftest import GetArtifact
from tests.support.crop_networks import crop_network
from tests.support.exported import tiny
from tests.support.heads import HEADS
from tests.support.manifests import Edit, edit
from tests.support.own_networks import decoded

run = test_cli.run

BOXES = 'check = false\n[outputs]\nboxes = "boxes"\nscores = "scores"\nboxes_in = "unit"\nlandmarks = "points"\n'
CROP = "[crop]\ngrow = 1.2\n[meaning.points]\n"

# What of a configuration somebody may edit, and to what: all of it would still run.
PREPROCESS: dict[str, Any] = {
    "preprocess.scale": 1 / 127,
    "preprocess.mean": [127.5, 127.5, 127.5],
    "preprocess.colours": "rgb",
}
EDITS: dict[str, dict[str, Any]] = {
    "mos-tiny": {
        **PREPROCESS,
        "score_threshold": 0.3,
        "nms": 0.9,
        "protocol": "stretch",
        "longest": 420,
        "top": 10,
        "keep": 1,
        "multiscale_scales": [1.0, 2.0],
    },
    "mtcnn": {
        **PREPROCESS,
        "thresholds": [0.6, 0.7, 0.9],
        "min_face": 60.0,
        "scale_factor": 0.5,
        "onet_nms": 0.3,
        "conventions": "facenet",
    },
    "boxes": {
        **PREPROCESS,
        "outputs.boxes_in": "pixels",
        "outputs.landmarks": None,
        "outputs.yaw": "yaw",
        "protocol": "fit",
        "score_threshold": 0.3,
        "nms": 0.9,
        "keep": 1,
    },
    "crop": {
        **PREPROCESS,
        "crop.grow": 1.5,
        "crop.square": False,
        "crop.shift": [0.1, 0.0],
        "crop.edge": "replicate",
        "meaning.points.points_in": "signed",
        "meaning.points.order": "yx",
    },
}
CASES = [(model, key) for model, keys in EDITS.items() for key in keys]
# In `make test` one of each kind for the published models, whose networks take seconds.
QUICK = {("mos-tiny", "preprocess.scale"), ("mtcnn", "thresholds")}


@dataclass(frozen=True)
class Made:
    """An artifact, and the file that it was made from."""

    artifact: Artifact
    weights: Path | None

    def verify(self, folder: Path, **options: Any) -> Verification:
        return verify(folder, self.weights, threads=1, **options)


GetMade = Callable[[str], Made]


@pytest.fixture(scope="module")
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> GetMade:
    known: dict[str, Made] = {}

    def make(model: str) -> Made:
        if model == "mos-tiny":
            return Made(tiny("onnx-fp32", (160, 160)), None)
        if model == "mtcnn":
            get: GetArtifact = request.getfixturevalue("real_artifact")
            return Made(get("onnx-fp32"), request.getfixturevalue("published"))
        folder = tmp_path_factory.mktemp(model)
        if model == "family":
            path = HEADS["yunet"].write(folder / "yunet.onnx")
        elif model == "boxes":
            path = decoded(folder / "face.onnx")
            path.with_suffix(".toml").write_text(BOXES)
        else:
            path = crop_network(folder / "points.onnx", {"out": np.linspace(0.2, 0.8, 12)})
            path.with_suffix(".toml").write_text(CROP)
        return Made(export(str(path), "onnx-fp32", output=folder / "made"), path)

    def get(model: str) -> Made:
        if model not in known:
            known[model] = make(model)
        return known[model]

    return get


def configured(key: str, value: Any) -> Edit:
    """The edit that gives a value of the configuration, such as that of "preprocess.scale"."""

    def change(manifest: dict[str, Any]) -> None:
        *inside, last = key.split(".")
        table = manifest["pipeline"]["config"]
        for name in inside:
            table = table[name]
        assert table[last] != value
        table[last] = value

    return change


def copied(artifact: Artifact, tmp_path: Path) -> Path:
    return Path(shutil.copytree(artifact.path, tmp_path / "copy"))


@pytest.mark.parametrize(("model", "key"), CASES)
def test_an_edited_value_is_found_when_the_artifact_is_opened(
    model: str, key: str, made: GetMade, tmp_path: Path
) -> None:
    folder = copied(made(model).artifact, tmp_path)
    Artifact.open(folder)
    edit(folder, configured(key, EDITS[model][key]), sign=False)
    with pytest.raises(ArtifactError) as caught:
        Artifact.open(folder)
    assert str(caught.value).startswith(f"{folder / MANIFEST} was changed after it was written: ")
    assert caught.value.exit_status == 2


@pytest.mark.parametrize(
    ("model", "key"),
    [
        pytest.param(*case, marks=[pytest.mark.slow] if case[0] in ("mos-tiny", "mtcnn") and case not in QUICK else [])
        for case in CASES
    ],
)
def test_an_edited_value_with_a_digest_that_fits_is_found_by_verify(
    model: str, key: str, made: GetMade, tmp_path: Path
) -> None:
    folder = copied(made(model).artifact, tmp_path)
    edit(folder, configured(key, EDITS[model][key]))
    problems = made(model).verify(folder).problems
    (said,) = [p for p in problems if "in the artifact, and" in p]
    value = EDITS[model][key]
    shown = "nothing" if value is None else json.dumps(value)
    assert said.startswith(f"{key} is {shown} in the artifact, and ")


@pytest.mark.parametrize("model", [*EDITS, "family"])
def test_nothing_is_said_of_what_nobody_edited(model: str, made: GetMade) -> None:
    found = made(model).verify(made(model).artifact.path)
    assert (found.problems, found.notes) == ((), ())


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("boxes", {"score_threshold": 0.3, "protocol": "fit"}),
        ("crop", {"preprocess": {"scale": 0.5}}),
        ("family", {"nms": 0.5}),
        pytest.param("mos-tiny", {"score_threshold": 0.3}, marks=pytest.mark.slow),
        pytest.param("mtcnn", {"min_face": 40, "thresholds": (0.5, 0.6, 0.7)}, marks=pytest.mark.slow),
    ],
)
def test_what_was_set_at_export_is_noted(model: str, options: Mapping[str, Any], made: GetMade, tmp_path: Path) -> None:
    weights = made(model).weights
    own = model not in ("mos-tiny", "mtcnn")
    size = (160, 160) if model == "mos-tiny" else None
    name = str(weights) if own else model
    where = None if own else weights
    new = export(name, "onnx-fp32", where, tmp_path / "new", options=options, input_size=size)
    assert new.manifest.options == json.loads(json.dumps(options))
    found = made(model).verify(new.path)
    assert found.problems == ()
    assert found.notes == tuple(f"{k} was set to {json.dumps(v)} at export" for k, v in options.items())
    edit(new.path, lambda manifest: manifest.update(options={}))  # As if nobody had meant it.
    told = made(model).verify(new.path)
    assert told.notes == ()
    keys = {"preprocess": "preprocess.scale"}
    assert [p.split(" is ")[0] for p in told.problems] == [keys.get(k, k) for k in sorted(options, key=order(new))]


def order(artifact: Artifact) -> Callable[[str], int]:
    """The place of an option in the configuration."""
    return list(artifact.manifest.pipeline.config).index


def test_options_of_the_call_are_no_differences(made: GetMade, tmp_path: Path) -> None:
    assert made("boxes").verify(made("boxes").artifact.path, options={"score_threshold": 0.1}).problems == ()
    folder = copied(made("boxes").artifact, tmp_path)
    edit(folder, configured("score_threshold", 0.3))
    assert made("boxes").verify(folder).problems
    assert made("boxes").verify(folder, options={"score_threshold": 0.3}).problems == ()


def test_the_faces_are_those_of_the_source_and_differ(made: GetMade, tmp_path: Path) -> None:
    picture = tmp_path / "group.png"
    cv2.imwrite(str(picture), group_photo(np.random.default_rng(1), 240, 320, 3))
    found = made("mos-tiny").verify(made("mos-tiny").artifact.path, images=[picture])
    assert found.faces is not None
    assert found.faces.matched >= 2
    assert found.problems == ()
    folder = copied(made("mos-tiny").artifact, tmp_path)
    edit(folder, configured("preprocess.scale", 1 / 127))
    told = made("mos-tiny").verify(folder, images=[picture])
    assert told.faces is not None
    assert told.faces.missing >= 2
    assert any("missing" in problem for problem in told.problems)


def test_another_kind_of_pipeline_is_named(made: GetMade, tmp_path: Path) -> None:
    folder = copied(made("boxes").artifact, tmp_path)
    edit(folder, lambda manifest: manifest.update(pipeline={"family": "tensors", "config": {}}))
    assert made("boxes").verify(folder).problems == (
        "the pipeline is tensors in the artifact, and boxes by what it was made from",
    )


def test_outputs_that_are_exchanged_are_named_though_they_cannot_run(made: GetMade, tmp_path: Path) -> None:
    folder = copied(made("boxes").artifact, tmp_path)
    edit(folder, configured("outputs.boxes", "scores"))
    first, second = made("boxes").verify(folder).problems
    assert first.startswith('outputs.boxes is "scores" in the artifact, and "boxes" by what it was made from: ')
    assert second.startswith("outputs.boxes must be ")


def test_anchors_of_the_settings_are_found_by_the_tensors(made: GetMade, tmp_path: Path) -> None:
    folder = copied(made("family").artifact, tmp_path)
    edit(folder, lambda manifest: manifest["settings"]["decode"].update(offset=0.5))
    found = made("family").verify(folder)
    assert any(problem.startswith("network.boxes in onnxruntime is off by") for problem in found.problems)
    assert [note.split(": ")[0] for note in found.notes] == [
        "settings.decode.offset is 0.5 and by the family yunet 0.0"
    ]


def scaled(manifest: dict[str, Any]) -> None:
    manifest["settings"]["input"]["scale"] = 0.5
    manifest["pipeline"]["config"]["preprocess"]["scale"] = 0.5


def grown(manifest: dict[str, Any]) -> None:
    for table in (manifest["settings"], manifest["pipeline"]["config"]):
        table["crop"]["grow"] = 1.5


@pytest.mark.parametrize(
    ("model", "change", "note"),
    [
        ("family", scaled, "settings.input.scale is 0.5 and by the family yunet 1.0: "),
        ("crop", grown, "settings.crop.grow is 1.5 and by {toml} 1.2: "),
    ],
)
def test_settings_that_nothing_explains_are_noted(
    model: str, change: Edit, note: str, made: GetMade, tmp_path: Path
) -> None:
    """Whoever edits settings and configuration alike may have said so at export, as far as anyone can tell."""
    folder = copied(made(model).artifact, tmp_path)
    edit(folder, change)
    found = made(model).verify(folder)
    assert found.problems == ()
    weights = made(model).weights
    assert weights is not None
    (said,) = found.notes
    assert said.startswith(note.format(toml=weights.with_suffix(".toml")))


def test_each_part_of_a_chain_is_looked_at(made: GetMade, tmp_path: Path) -> None:
    chain = make_chain(made("boxes").artifact.path, [made("crop").artifact.path], tmp_path / "chain").path
    weights = [w for w in (made("boxes").weights, made("crop").weights) if w is not None]
    assert verify(chain, weights, threads=1).problems == ()
    looker = made("crop").artifact.path.name
    edit(chain / DETECTOR, configured("nms", 0.9))
    edit(chain / looker, configured("crop.grow", 1.5))
    with pytest.raises(ArtifactError, match="is not the artifact that the chain was made of"):
        Artifact.open(chain)
    write_chain(chain, [DETECTOR, looker])
    said = verify(chain, weights, threads=1).problems
    assert [p.split(" in the artifact")[0] for p in said] == [
        "detector: nms is 0.9",
        f"{looker}: crop.grow is 1.5",
    ]


def test_the_command_says_both(made: GetMade, run: Run, tmp_path: Path) -> None:
    weights = made("boxes").weights
    new = export(str(weights), "onnx-fp32", output=tmp_path / "new", options={"nms": 0.5})
    right = run("verify", new.path, "--weights", weights)
    assert (right.status, right.err) == (0, "facedeploy: nms was set to 0.5 at export\n")
    edit(new.path, configured("nms", 0.9))
    wrong = run("verify", new.path, "--weights", weights)
    assert wrong.status == 1
    assert "facedeploy: nms is 0.9 in the artifact, and 0.5 by what it was made from: " in wrong.err
    (said,) = run("verify", new.path, "--weights", weights, "--json").objects
    assert said["notes"] == ["nms was set to 0.5 at export"]
    assert len(said["problems"]) == 1


# The digest


def leaves(value: Any, where: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The place of every value of plain data that holds no other."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [place for key, item in inside for place in leaves(item, (*where, key))]
    yield from found or [where]


def with_other(plain: Any, place: tuple[Any, ...]) -> Any:
    changed = holder = json.loads(json.dumps(plain))
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = "another" if holder[place[-1]] != "another" else None
    return changed


@pytest.mark.parametrize("model", EDITS)
def test_the_digest_covers_every_value(model: str, made: GetMade) -> None:
    plain = json.loads((made(model).artifact.path / MANIFEST).read_text())
    assert digest_of(plain) == plain["digest"]
    places = [place for place in leaves(plain) if place != ("digest",)]
    assert len(places) > 40
    assert [place for place in places if digest_of(with_other(plain, place)) == plain["digest"]] == []


def test_the_layout_of_a_manifest_is_free(made: GetMade, tmp_path: Path) -> None:
    folder = copied(made("boxes").artifact, tmp_path)
    plain = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(dict(reversed(plain.items())), indent=4))
    assert Artifact.open(folder).manifest == made("boxes").artifact.manifest


def test_manifests_of_earlier_releases_have_none(made: GetMade, tmp_path: Path) -> None:
    folder = copied(made("boxes").artifact, tmp_path)

    def earlier(manifest: dict[str, Any]) -> None:
        del manifest["digest"], manifest["options"]

    edit(folder, earlier)
    opened = Artifact.open(folder)
    assert (opened.manifest.digest, opened.manifest.options) == ("", {})
    found = made("boxes").verify(folder)
    assert found.problems == ()
    assert found.notes == ("the manifest has no digest: an earlier release wrote it, or somebody took it out",)
    write_manifest(folder, opened.manifest)
    assert Artifact.open(folder).manifest.digest
