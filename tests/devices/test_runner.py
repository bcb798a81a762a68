"""The runner of phones, over a stand-in for ncnn: what it finds, what it measures, and what it makes of nonsense."""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import struct
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from facedeploy import pipelines
from facedeploy.artifact.folder import Artifact
from facedeploy.artifact.manifest import PipelineEntry
from facedeploy.benchmarks.latency import protocol
from facedeploy.benchmarks.record import PHASES
from facedeploy.core.errors import InputError
from facedeploy.core.face import Face
from facedeploy.core.preprocess import Pixels
from facedeploy.export.exporter import export
from facedeploy.metrics.face_matching import compare_faces
from facedeploy.package.constants import PROTOCOLS, constants
from facedeploy.package.model_text import NAME, model_text
from facedeploy.pipelines.load import load
from tests.cpp import answers, stream
from tests.cpp.ncnn_itself import build_with_ncnn

PARTS = stream.DRIVER.with_name("parts.cpp")
PHOTO = Path(__file__).parents[2] / "examples" / "astronaut.jpg"
SILENCE = 2.0  # Seconds.
SIZES = ((90, 70), (40, 50), (300, 5), (1, 1))
# Things wrong in a copy of the runner, of which each has a check of its own, and what they are instead.
WRONG_RULES = (
    ("measure.hpp", "2 * window, times.end() - window", "3 * window, times.end() - window"),
    ("measure.hpp", "shuffle(order, generator_)", "generator_()"),
    ("measure.hpp", "subjects_[who].run(first);", ""),
    ("lines.hpp", "good() && more_", "false"),
)
WRONG_NAMES = (("model_file.hpp", "&& name.find('/') == std::string::npos", ""),)


@dataclass(frozen=True)
class Built:
    """parts: what needs no ncnn. rules, names: the same with things wrong."""

    runner: Path
    parts: Path
    rules: Path
    names: Path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    if shutil.which("g++") is None:
        pytest.skip("no g++: the runner is not compiled")
    folder = tmp_path_factory.mktemp("runner")

    def mutant(name: str, changes: Sequence[tuple[str, str, str]]) -> Path:
        copy = shutil.copytree(answers.RUNNER, folder / name)
        for file, right, wrong in changes:
            replaced(copy / file, right, wrong)
        # The first folder with a header of that name is the one.
        return stream.compile_driver(folder / f"{name}.out", f"-I{copy}", "-pthread", "-Wno-error", source=PARTS)

    with ThreadPoolExecutor(2) as pool:
        made = [
            pool.submit(answers.compile_runner, folder / "runner", *stream.SANITIZERS, "-O0"),
            pool.submit(answers.compile_runner, folder / "parts", *stream.SANITIZERS, "-O0", source=PARTS),
            pool.submit(mutant, "rules", WRONG_RULES),
            pool.submit(mutant, "names", WRONG_NAMES),
        ]
    return Built(*(m.result() for m in made))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    folder = tmp_path_factory.mktemp("models")
    made = {
        "mos": answers.write_artifact(folder / "mos"),
        "boxes": answers.write_artifact(folder / "a name of boxes", "boxes", size=(48, 80), faces=7, seed=1),
        "none": answers.write_artifact(folder / "none", faces=0, seed=2),
        "slow": answers.write_artifact(folder / "slow", faces=1, more=["wait 0.002"]),
    }
    for artifact in made.values():
        answers.write_model_text(artifact)
    return made


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Pixels]:
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    made = {folder / f"{i} é": rng.integers(0, 256, (*size, 3), dtype=np.uint8) for i, size in enumerate(SIZES)}
    for path, image in made.items():
        image.tofile(path)
    return made


# --- faces ---


def call(*words: object, given: bytes | None = None) -> subprocess.CompletedProcess[str]:
    """given: standard input, which is closed after it."""
    text = None if given is None else given.decode("utf-8", "surrogateescape")
    return subprocess.run(list(map(str, words)), input=text, capture_output=True, text=True, timeout=60, check=False)


def triples(pictures: dict[Path, Pixels]) -> list[object]:
    return [word for path, image in pictures.items() for word in (path, *image.shape[:2])]


def detect(runner: Path, folder: Path, pictures: dict[Path, Pixels]) -> list[dict[str, Any]]:
    done = call(runner, "detect", folder, 1, *triples(pictures))
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def same(have: Sequence[dict[str, Any]], want: Sequence[Face]) -> bool:
    """The same faces in the same order, to a thousandth."""

    def numbers(face: dict[str, Any]) -> dict[str, Any]:
        return {key: np.ravel(value).tolist() for key, value in face.items()}

    pairs = zip(map(numbers, have), (numbers(f.to_dict()) for f in want), strict=False)
    return len(have) == len(want) and all(
        list(a) == list(b) and all(np.allclose(a[k], b[k], rtol=0, atol=1e-3) for k in a) for a, b in pairs
    )


@pytest.mark.parametrize("which", ["mos", "boxes", "none"])
def test_detect_finds_what_python_finds(
    which: str, built: Built, models: dict[str, Artifact], pictures: dict[Path, Pixels]
) -> None:
    artifact = models[which]
    rows = detect(built.runner, artifact.path, pictures)
    pipeline = answers.open_pipeline(artifact)
    wanted = [pipeline.detect(image) for image in pictures.values()]
    assert [(r["image"], r["height"], r["width"]) for r in rows] == [
        (str(path), *image.shape[:2]) for path, image in pictures.items()
    ]
    assert all(same(row["faces"], want) for row, want in zip(rows, wanted, strict=True))
    # In the picture of one pixel all of them overlap.
    assert [len(w) for w in wanted[:3]] == [{"mos": 3, "boxes": 7, "none": 0}[which]] * 3
    # Of another picture they are other ones, so that it matters which was read.
    assert which == "none" or not same(rows[0]["faces"], wanted[1])


def test_options_count(built: Built, models: dict[str, Artifact], pictures: dict[Path, Pixels], tmp_path: Path) -> None:
    folder = shutil.copytree(models["mos"].path, tmp_path / "mos")
    answers.write_model_text(Artifact.open(folder), score_threshold=0.99)
    assert [row["faces"] for row in detect(built.runner, folder, pictures)] == [[]] * len(SIZES)


# --- measuring ---


def request(artifacts: Sequence[Path], pictures: dict[Path, Pixels], **changes: object) -> bytes:
    settings: dict[str, object] = {
        "threads": 1,
        "rounds": 2,
        "seconds": 0.6,
        "fewest": 2,
        "steady": 0.05,
        "window": 2,
        "cap": 0.05,
        "turn": 3,
        "seed": 12345,
        "beat": 10,
        "silence": 60,
        "limit": 3600,
        **changes,
    }
    lines = ["facedeploy 1", *(f"{k} {v}" for k, v in settings.items()), *(f"artifact {a}" for a in artifacts)]
    lines += [f"picture {i.shape[0]} {i.shape[1]} {path}" for path, i in pictures.items()]
    return "\n".join([*lines, "end", ""]).encode("utf-8", "surrogateescape")


def measure(runner: Path, given: bytes) -> subprocess.CompletedProcess[str]:
    """With standard input open until it is done."""
    with subprocess.Popen(
        [str(runner), "measure"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(given)
        process.stdin.flush()
        said = process.stdout.read().decode()
        errors = process.stderr.read().decode()
    return subprocess.CompletedProcess([], process.returncode, said, errors)


def answer(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The last line, which must be one of ours; no number of JSON is NaN."""

    def refuse(word: str) -> None:
        raise AssertionError(word)

    assert done.returncode == 0, done.stderr
    lines = [json.loads(line, parse_constant=refuse) for line in done.stdout.splitlines() if line]
    assert all(list(line) == ["facedeploy"] and len(line["facedeploy"]) == 1 for line in lines)
    found: dict[str, Any] = lines[-1]["facedeploy"]
    return found


def test_measure_answers_times_and_faces(
    built: Built, models: dict[str, Artifact], pictures: dict[Path, Pixels]
) -> None:
    folders = [models[n].path for n in ("mos", "boxes", "slow")]
    found = answer(measure(built.runner, request(folders, pictures, rounds=3)))["opening"]
    assert found["ncnn"] == "1.0.stand-in"
    assert found["usable"] == sorted(os.sched_getaffinity(0))
    assert min(found["seconds"], found["warmed"], found["processor"]) > 0
    assert len(found["artifacts"]) == 3
    for folder, one in zip(folders, found["artifacts"], strict=True):
        assert min(one["load"], one["first"]) > 0
        assert one["memory"] is None or one["memory"] >= 0
        assert [row["faces"] for row in detect(built.runner, folder, pictures)] == one["faces"]
        times = np.array(one["times"])
        assert times.shape == (len(PHASES), 3, len(SIZES))
        assert (times[0] > 0).all()
        assert (times >= -1e-9).all()
        assert np.allclose(times[0], times[1:].sum(axis=0), rtol=0, atol=5e-9)
    # It sleeps in its network, so that this takes as long at least and the rest does not.
    slow = np.array(found["artifacts"][2]["times"])
    assert (slow[2] >= 0.002).all()
    assert (slow[0] - slow[1] - slow[3] >= 0.002 - 5e-9).all()


@pytest.mark.parametrize(("rounds", "seconds", "fewest", "exactly"), [(0, 9, 2, 0), (-1, 0, 4, 4), (-1, 0.2, 1, None)])
def test_rounds_are_as_many_as_asked(
    rounds: int,
    seconds: float,
    fewest: int,
    exactly: int | None,
    built: Built,
    models: dict[str, Artifact],
    pictures: dict[Path, Pixels],
) -> None:
    given = request([models["mos"].path], pictures, rounds=rounds, seconds=seconds, fewest=fewest)
    found = answer(measure(built.runner, given))["opening"]
    (one,) = found["artifacts"]
    counts = {len(phase) for phase in one["times"]}
    assert len(counts) == 1
    assert counts == {exactly} if exactly is not None else min(counts) >= fewest
    # Until the seconds are over, and no round more: all but the last fit in, however slow the machine is.
    assert found["seconds"] >= (seconds if rounds < 0 else 0)
    assert exactly is not None or sum(map(sum, one["times"][0][:-1])) < seconds
    assert len(one["faces"]) == len(SIZES)


def started(runner: Path, given: bytes) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [str(runner), "measure"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin is not None
    process.stdin.write(given)
    process.stdin.flush()
    return process


@pytest.mark.parametrize("why", ["end", "silence", "limit", "end of the request"])
def test_ends_when_nobody_is_there(
    why: str, built: Built, models: dict[str, Artifact], pictures: dict[Path, Pixels]
) -> None:
    changes = {"silence": {"silence": 0.3}, "limit": {"limit": 0.3}}.get(why, {})
    given = request([models["slow"].path], pictures, rounds=1000000, **changes)
    process = started(built.runner, given[:-2] if why == "end of the request" else given)
    with process:
        if why.startswith("end"):
            assert process.stdin is not None
            process.stdin.close()
        assert process.wait(30) == 1
        assert process.stderr is not None
        said = process.stderr.read().decode()
        assert process.stdout is not None
        assert b"opening" not in process.stdout.read()
    expected = {"silence": "nothing was heard for 0.3 seconds", "limit": "too long"}.get(why, "the connection was lost")
    assert expected in said.splitlines()[-1]


def test_bytes_keep_it_alive_and_it_gives_signs_of_life(
    built: Built, models: dict[str, Artifact], pictures: dict[Path, Pixels]
) -> None:
    given = request([models["slow"].path], pictures, rounds=1000000, silence=SILENCE, beat=0.05)
    # Where this process was kept waiting for as long, silence is what the runner heard: another try.
    assert any(stays_alive(built.runner, given) for _ in range(5))


def stays_alive(runner: Path, given: bytes) -> bool:
    """Whether bytes keep it alive for longer than it bears silence. False where they came too late to say."""
    with started(runner, given) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        begun = last = time.monotonic()
        while time.monotonic() - begun < 1.25 * SILENCE:
            try:
                process.stdin.write(b"\n")
                process.stdin.flush()
                alive = process.stderr.read(1) == b"\n" and process.poll() is None
            except BrokenPipeError:
                alive = False
            now = time.monotonic()
            if not alive:
                assert now - last > SILENCE / 2, "it gave up although it was spoken to"
                return False
            last = now
        process.kill()
    return True


# --- the rules ---


def ask(parts: Path, cases: Sequence[bytes]) -> list[str]:
    """An answer to each case, in one process."""
    given = b"".join(struct.pack("<I", len(case)) + case for case in cases)
    done = subprocess.run([str(parts)], input=given, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode()
    found = done.stdout.decode().splitlines()
    assert len(found) == len(cases)
    return found


def turns(parts: Path, subjects: int, pictures: int, turn: int, rounds: int, seed: int) -> list[list[str]]:
    """What ran in each turn of each artifact."""
    (log,) = ask(parts, [f"O{subjects} {pictures} {turn} {rounds} {seed} {1 << 20}".encode()])
    return [part.split() for part in log.split(" / ")[0].split("| ")[1:]]


def right_turns(parts: Path) -> bool:
    """In a round every artifact runs every picture once and is counted, and once before in each turn."""
    found = turns(parts, 3, 7, 3, 2, 5)
    slices = [[0, 1, 2], *[[0, 1, 2], [3, 4, 5], [6]] * 2]  # The first turn comes once more.
    right = len(found) == 3 * len(slices)
    for i, pictures in enumerate(slices):
        drawn = found[3 * i : 3 * i + 3]
        right = right and sorted(t[0][0] for t in drawn) == ["0", "1", "2"]
        right = right and all(t == [f"{t[0][0]}:{p}" for p in [pictures[0], *pictures]] for t in drawn)
    return right


def draws(parts: Path) -> bool:
    """The order of turns is of the seed, and all orders come."""
    found = [turns(parts, 3, 1, 1, 200, seed) for seed in (1, 1, 2)]
    orders = [tuple(t[0][0] for t in found[0][i : i + 3]) for i in range(0, len(found[0]), 3)]
    share = [orders.count(o) for o in set(orders)]
    return found[0] == found[1] != found[2] and len(share) == math.factorial(3) and min(share) > 10


def python_warm_up(times: Sequence[float], window: int, steady: float, cap: float) -> tuple[int, bool]:
    made = protocol.make_protocol([], threads=1, streams=1, seconds=1, rounds=1, seed=0, options={})
    left = list(times)
    became = protocol.warm_up(lambda: left.pop(0), replace(made, window=window, steady=steady, cap=cap))
    return len(times) - len(left), became


def warms_up(parts: Path) -> bool:
    rng = np.random.default_rng(3)
    cases, wanted = [], []
    for i in range(300):
        window, cap = int(rng.integers(1, 7)), float(i % 4 > 0) * 1000
        times = [*np.round(rng.uniform(1, 1.3, rng.integers(0, 60)), 6).tolist(), *[1.0] * 30]
        cases.append(f"W{window} 0.05 {cap} {' '.join(map(str, times))}".encode())
        wanted.append(python_warm_up(times, window, 0.05, cap))
    return ask(parts, cases) == [f"{count} {int(became)}" for count, became in wanted]


def test_takes_turns_and_warms_up_as_python_does(built: Built) -> None:
    assert right_turns(built.parts)
    assert draws(built.parts)
    assert warms_up(built.parts)


def test_times_are_kept_by_round_and_picture(built: Built) -> None:
    (log,) = ask(built.parts, [b"O2 5 2 3 7 1000"])
    assert (
        log.split(" / ")[1:] == [" ".join(map(str, [0, 1, 2, 3, 4] * 3))] * 2
        or [part.split() for part in log.split("/ ")[1:]] == [list("01234" * 3)] * 2
    )
    (few,) = ask(built.parts, [b"O2 5 2 3 7 80"])  # No more numbers than may be.
    assert [part.split() for part in few.split("/ ")[1:]] == [list("01234" * 2)] * 2


# --- what it reads ---


def described(artifact: Artifact, entry: PipelineEntry) -> list[Any]:
    """What C++ must have read in a model.txt."""
    image, selection, *rest = astuple(constants([n.spec for n in artifact.manifest.networks], entry))
    height, width, way, colours, mean, scale = image
    own = entry.config.get("outputs")
    roles = ("boxes", "scores", "landmarks", "yaw", "pitch", "roll")

    def padded(names: list[Any], count: int) -> list[Any]:
        return [*names, *[None] * (count - len(names))]

    networks = []
    for n in artifact.manifest.networks:
        outputs = [own[r] for r in roles] if own else [t.name for t in n.spec.outputs]
        files = [n.files[role].path for role in ("param", "bin")]
        inputs = padded([t.name for t in n.spec.inputs], 2)
        networks.append([*files, inputs, padded(outputs, 6), [int(v) for v in n.options.values()]])
    floats = [np.array(v, np.float32).tolist() for v in (mean, scale)]
    first = [height, width, PROTOCOLS.index(way), ["bgr", "rgb"].index(colours)]
    return [[*first, *floats, *selection, *map(int, rest)], networks]


def text_of(artifact: Artifact) -> bytes:
    return (artifact.path / NAME).read_bytes()


def test_model_txt_says_what_the_manifest_says(built: Built, models: dict[str, Artifact]) -> None:
    changes = {
        "preprocess": {"colours": "rgb", "mean": [0.1, 123.456, 255], "scale": [1 / 255, 0.017, 2.0]},
        "protocol": "stretch",
        "score_threshold": 1 / 3,
        "nms": 1e-5,
        "top": 9,
        "keep": 3,
    }
    for artifact in (models["mos"], models["boxes"]):
        manifest = artifact.manifest
        for options in ({}, changes):
            entry = pipelines.configure(manifest.pipeline.family, options, manifest.pipeline.config)
            found = constants([n.spec for n in manifest.networks], entry)
            (said,) = ask(built.parts, [b"M" + model_text(manifest, found).encode()])
            assert json.loads(said) == described(artifact, entry)


def test_names_may_be_anything(built: Built, models: dict[str, Artifact]) -> None:
    artifact = models["boxes"]
    manifest = artifact.manifest
    (network,) = manifest.networks
    for name in ("-", "100 %", 'naïve "name"\\?\n', "%2D", "a\tb"):
        files = {role: replace(file, path=f"{name}.{role}") for role, file in network.files.items()}
        inputs = tuple(replace(t, name=name) for t in network.spec.inputs)
        changed = replace(network, files=files, spec=replace(network.spec, inputs=inputs))
        text = model_text(replace(manifest, networks=(changed,)), constants([changed.spec], manifest.pipeline))
        (said,) = ask(built.parts, [b"M" + text.encode()])
        if "\\" in name:  # No name of a file in every system.
            assert said.endswith("is not the name of a file in this folder")
            continue
        _, ((param, _, (first, _), *_),) = json.loads(said)
        assert (param, first) == (f"{name}.param", name)


def test_files_in_folders_and_unknown_options_are_refused(models: dict[str, Artifact]) -> None:
    manifest = models["boxes"].manifest
    (network,) = manifest.networks
    found = constants([network.spec], manifest.pipeline)
    moved = {role: replace(file, path=f"sub/{file.path}") for role, file in network.files.items()}
    for changed in (replace(network, files=moved), replace(network, options={"use_magic": True})):
        with pytest.raises(InputError, match=r"sub/network.param|use_magic"):
            model_text(replace(manifest, networks=(changed,)), found)


# --- nonsense ---


NO_NAMES = (b"", b"%", b"%00", b"%zz", b"../x", b"a b", b".", b"..")
NO_NUMBERS = (b"-2", b"99999999999999999999", b"nan", b"inf", b"1e999", b"0x10", b"1 2", b"1.5.5")


def wrong_texts(text: bytes) -> list[bytes]:
    """Every beginning; every line left out, doubled, with more behind it, and with another number."""
    lines = text.splitlines(keepends=True)
    made = [text[:i] for i in range(len(text))]
    for i, line in enumerate(lines):
        before, after = b"".join(lines[:i]), b"".join(lines[i + 1 :])
        key, *_ = line.split()
        made += [before + after, before + line + line + after, before + line[:-1] + b"\r\n" + after]
        made += [before + b"unknown 1\n" + line + after, before + line + b"\n" + after, before + b" " + line + after]
        if key in (b"model", b"target", b"network", b"artifact"):
            continue  # Where any word will do.
        for word in NO_NAMES if key in (b"param", b"bin") else (*NO_NAMES, *NO_NUMBERS):
            made.append(before + key + b" " + word + b"\n" + after)
    return [*made, text + b"more\n", text + b"\n", text.replace(b" ", b"  "), b"", b"\n", b"\0" * 100]


ONE_PICTURE = request([Path("/a b")], {Path("/c"): np.zeros((3, 4, 3), np.uint8)})


def refuses(parts: Path, kind: bytes, text: bytes) -> bool:
    # A line may be doubled where there may be several, and a picture's name may be anything.
    several = [line for line in text.splitlines(keepends=True) if line.startswith((b"artifact ", b"picture "))]
    cases = [c for c in wrong_texts(text) if c not in [text.replace(line, line + line) for line in several]]
    answered = ask(parts, [kind + case for case in cases])
    return all(said.startswith("line ") for said in answered)


def test_strict_about_its_lines(built: Built, models: dict[str, Artifact], pictures: dict[Path, Pixels]) -> None:
    assert refuses(built.parts, b"M", text_of(models["mos"]))
    assert refuses(built.parts, b"M", text_of(models["boxes"]))
    assert refuses(built.parts, b"R", ONE_PICTURE)


WRONG_MODELS: dict[str, tuple[str, str]] = {
    "no such family": ("family mos", "family tensors"),
    "family of others": ("family mos", "family boxes"),
    "path outside": ("bin detector.bin", "bin ../detector.bin"),
    "absolute path": ("bin detector.bin", "bin /etc/passwd"),
    "path that is encoded": ("bin detector.bin", "bin %2E%2E%2Fdetector.bin"),
    "this folder": ("param detector.param", "param ."),
    "folder above": ("param detector.param", "param .."),
    "end of a string in a name": ("param detector.param", "param a%00b"),
    "no name": ("inputs image -", "inputs - -"),
    "name of none": ("inputs image -", "inputs image image"),
    "output that is missing": ("outputs boxes scores", "outputs - scores"),
    "enormous input": ("width 96", "width 16384\x00"),
    "input of too many pixels": ("height 64\nwidth 96", "height 16384\nwidth 16384"),
    "no pixels": ("height 64", "height 0"),
    "scale that is nothing": ("scale 1.0 1.0 1.0", "scale 1.0 0.0 1.0"),
    "mean beyond float": ("mean 104.0", "mean 1e300"),
    "anchors beyond": ("anchors 1", "anchors 65"),
    "patches too deep": ("patch_channels 48", "patch_channels 50"),
    "enormous count": ("keep 750", "keep 1073741824"),
    "another version": ("facedeploy-model 1", "facedeploy-model 2"),
}


def test_model_that_cannot_be_is_refused(built: Built, models: dict[str, Artifact]) -> None:
    text = text_of(models["mos"]).decode()
    assert all(text.count(right) >= 1 for right, _ in WRONG_MODELS.values())
    cases = [text.replace(right, wrong, 1).encode() for right, wrong in WRONG_MODELS.values()]
    said = dict(zip(WRONG_MODELS, ask(built.parts, [b"M" + case for case in cases]), strict=True))
    assert [name for name, line in said.items() if not line.startswith("line ")] == []


def test_random_bytes_do_no_harm(built: Built, models: dict[str, Artifact], pictures: dict[Path, Pixels]) -> None:
    rng = random.Random(4)
    texts = {b"M": text_of(models["mos"]), b"R": request([Path("/a")], pictures)}
    cases = []
    for kind, text in texts.items():
        for _ in range(2000):
            changed = bytearray(text)
            for _ in range(rng.randint(1, 4)):
                changed[rng.randrange(len(changed))] = rng.randrange(256)
            cases.append(kind + bytes(changed))
        cases += [kind + rng.randbytes(rng.randint(1, 300)) for _ in range(500)]
    answered = ask(built.parts, [c.replace(b"\n", b"\n") for c in cases])
    assert sum(said.startswith("line ") for said in answered) > len(cases) // 2


def test_text_is_always_json(built: Built) -> None:
    rng = random.Random(5)
    words = [b"\xff\xfe", b"\xc3", b"\xed\xa0\x80", "é漢😀".encode(), b'"\\\n\0', b"\xf5\x80\x80\x80", b"\xe0\x80\x80"]
    words += [rng.randbytes(rng.randint(1, 12)) for _ in range(500)]
    for word, said in zip(words, ask(built.parts, [b"Q" + word for word in words]), strict=True):
        text = json.loads(said)
        assert text == text.encode().decode()
        if "�" not in text:
            assert text.encode() == word


@pytest.mark.slow
def test_runner_with_things_wrong_is_found_out(
    built: Built, models: dict[str, Artifact], pictures: dict[Path, Pixels]
) -> None:
    assert not warms_up(built.rules)
    assert not draws(built.rules)
    assert not right_turns(built.rules)
    assert not refuses(built.rules, b"R", ONE_PICTURE)
    assert refuses(built.names, b"R", ONE_PICTURE)
    assert not refuses(built.names, b"M", text_of(models["mos"]))


# --- wrong files and networks ---


def replaced(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def other(path: Path, make: Callable[[Path], None]) -> None:
    path.unlink()
    make(path)


def numbers(folder: Path, first: int, values: Sequence[float]) -> None:
    """Write numbers into detector.bin."""
    array = np.fromfile(folder / "detector.bin", "<f4")
    array[first : first + len(values)] = values
    array.tofile(folder / "detector.bin")


PRIORS = 8 * 12 + 4 * 6 + 2 * 3
NAN, INF = float("nan"), float("inf")
# What is done to the artifact `mos`, and what is said of it.
HOSTILE: dict[str, tuple[str, Callable[[Path], object]]] = {
    "no bin": ("does not load", lambda f: (f / "pose.bin").unlink()),
    "no param": ("does not load", lambda f: (f / "detector.param").unlink()),
    "truncated bin": ("does not load", lambda f: os.truncate(f / "detector.bin", 1000)),
    "empty bin": ("does not load", lambda f: os.truncate(f / "detector.bin", 0)),
    "param of another": ("does not load", lambda f: (f / "detector.param").write_text("7767517\n1 1\n")),
    "no model.txt": ("model.txt is missing", lambda f: (f / NAME).unlink()),
    "model.txt is a folder": ("model.txt is missing", lambda f: other(f / NAME, Path.mkdir)),
    "model.txt is a pipe": ("model.txt is missing", lambda f: other(f / NAME, os.mkfifo)),
    "model.txt is enormous": ("model.txt is missing", lambda f: os.truncate(f / NAME, 1 << 40)),
    "truncated model.txt": ("line ", lambda f: os.truncate(f / NAME, 300)),
    "path outside": ("not the name of a file", lambda f: replaced(f / NAME, "pose.bin", "../mos/pose.bin")),
    "score is NaN": ("NaN or infinity", lambda f: numbers(f, 4 * PRIORS, [NAN])),
    "score is infinite": ("NaN or infinity", lambda f: numbers(f, 5 * PRIORS - 1, [INF])),
    "all is NaN": ("NaN or infinity", lambda f: numbers(f, 0, [NAN] * 15 * PRIORS)),
    "boxes are infinite": ("NaN or infinity", lambda f: numbers(f, 0, [-INF] * 4 * PRIORS)),
    "output that is not there": ("did not run", lambda f: replaced(f / "detector.param", "output scores", "output s")),
    "input that is not there": ("did not run", lambda f: replaced(f / "detector.param", "input image", "input x")),
    "network that fails": ("did not run", lambda f: replaced(f / "pose.param", "input", "fails\ninput")),
    "fewer boxes": (
        "another size",
        lambda f: replaced(f / "detector.param", f"0.01 4 {PRIORS}", f"0.01 4 {PRIORS - 1}"),
    ),
    "flat maps": ("another size", lambda f: replaced(f / "detector.param", "1.0 12 8 48", "1.0 96 48")),
    "outputs in half": ("another size", lambda f: replaced(f / "detector.param", "boxes 4", "boxes 2")),
    "wider angles": ("another size", lambda f: replaced(f / "pose.param", "angles 4 0.1 1 3", "angles 4 0.1 1 2")),
    "model of another size": ("another size", lambda f: replaced(f / NAME, "width 96", "width 88")),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_wrong_artifacts_are_refused(
    name: str, built: Built, models: dict[str, Artifact], pictures: dict[Path, Pixels], tmp_path: Path
) -> None:
    expected, change = HOSTILE[name]
    folder = shutil.copytree(models["mos"].path, tmp_path / "mos")
    change(folder)
    done = call(built.runner, "detect", folder, 1, *triples(pictures))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1].startswith("runner: ")
    assert expected in done.stderr
    (kind, sentence) = answer(measure(built.runner, request([models["mos"].path, folder], pictures)))["error"]
    assert kind in ("InputError", "FacedeployError")
    assert expected in sentence
    assert "\n" not in sentence


def test_network_that_dies_ends_the_runner(
    built: Built, models: dict[str, Artifact], pictures: dict[Path, Pixels], tmp_path: Path
) -> None:
    folder = shutil.copytree(models["mos"].path, tmp_path / "mos")
    replaced(folder / "pose.param", "input", "dies\ninput")
    assert call(built.runner, "detect", folder, 1, *triples(pictures)).returncode < 0
    assert measure(built.runner, request([folder], pictures)).returncode < 0


@pytest.mark.parametrize(
    "wrong", ["short", "long", "gone", "folder", "enormous", "zero", "letters", "words", "threads"]
)
def test_wrong_calls_are_refused(wrong: str, built: Built, models: dict[str, Artifact], tmp_path: Path) -> None:
    path, size, threads = tmp_path / "raw", ["40", "50"], "1"
    path.write_bytes(bytes(40 * 50 * 3))
    if wrong in ("short", "long"):
        os.truncate(path, 40 * 50 * 3 + (1 if wrong == "long" else -1))
    elif wrong in ("gone", "folder"):
        path.unlink()
        if wrong == "folder":
            path.mkdir()
    elif wrong == "enormous":
        size = ["65535", "65535"]
        os.truncate(path, 65535 * 65535 * 3)
    elif wrong == "threads":
        threads = "1025"
    else:
        size = {"zero": ["0", "50"], "letters": ["40x", "50"], "words": ["40", "50", "60"]}[wrong]
    done = call(built.runner, "detect", models["mos"].path, threads, path, *size)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1].startswith("runner: ")
    given = request([models["mos"].path], {}, threads=threads)[: -len(b"end\n")]
    given += f"picture {' '.join(size)} {path}\nend\n".encode()
    assert answer(measure(built.runner, given))["error"][0] == "InputError"


def test_too_many_artifacts_and_too_long_a_request(built: Built, pictures: dict[Path, Pixels]) -> None:
    said = answer(measure(built.runner, request([Path("/none")] * 10_000, pictures)))
    assert "more than 1000 artifacts" in said["error"][1]
    said = answer(measure(built.runner, request([Path("/none")] * 1000, pictures, rounds=1_000_000)))
    assert "too many times" in said["error"][1]
    done = call(built.runner, "measure", given=request([Path("/none")] * 1_000_000, pictures))
    assert done.returncode == 1
    assert "too long" in done.stderr


def test_hundred_thousand_candidates(built: Built, tmp_path: Path) -> None:
    count = 100_000
    (network,) = answers.make_boxes((480, 640), 1000, 3)
    rng = np.random.default_rng(1)
    corner = rng.uniform(0, 600, (1, count, 2)).astype(np.float32)
    arrays = {
        "b": np.concatenate([corner, corner + 9], axis=2),
        "s": rng.uniform(0.51, 1, (1, count)).astype(np.float32),
        "l": np.zeros((1, count, 4), np.float32),
        "y": np.zeros((1, count), np.float32),
    }
    outputs = tuple(replace(t, shape=arrays[t.name].shape) for t in network.spec.outputs)
    changed = replace(network, spec=replace(network.spec, outputs=outputs), numbers=arrays)
    named = {"outputs": {"boxes": "b", "scores": "s", "boxes_in": "pixels", "landmarks": "l", "yaw": "y"}}
    entry = pipelines.configure("boxes", named)
    artifact = answers.write(tmp_path / "many", [changed], "own", entry)
    image = np.zeros((48, 64, 3), np.uint8)
    image.tofile(tmp_path / "raw")
    (row,) = detect(built.runner, answers.write_model_text(artifact), {tmp_path / "raw": image})
    wanted = answers.open_pipeline(artifact).detect(image)
    assert same(row["faces"], wanted)
    assert len(wanted) > 500


# --- other compilers, and ncnn itself ---


def test_compiles_as_ncnn_asks_of_apps_for_android(built: Built, tmp_path: Path) -> None:
    """Published packages of ncnn are built without exceptions and RTTI, and hand these flags on."""
    flags = ("-fsyntax-only", "-fno-exceptions", "-fno-rtti")
    answers.compile_runner(tmp_path / "runner", *flags)
    (tmp_path / "version.cpp").write_text("#include <version>\n#ifndef _LIBCPP_VERSION\n#error\n#endif\n")
    libcxx = ("-stdlib=libc++", "-fsyntax-only")
    if shutil.which("clang++") and call("clang++", *libcxx, tmp_path / "version.cpp").returncode == 0:
        answers.compile_runner(tmp_path / "runner", *flags, *libcxx, compiler="clang++")


def test_aarch64_gives_the_same_faces(
    built: Built, models: dict[str, Artifact], pictures: dict[Path, Pixels], tmp_path: Path
) -> None:
    compiler = shutil.which("aarch64-linux-gnu-g++")
    if compiler is None:
        pytest.skip("no aarch64-linux-gnu-g++: the runner is not compiled for aarch64")
    runner = answers.compile_runner(tmp_path / "runner", "-static", "-ffp-contract=off", compiler=compiler)
    emulator = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
    if emulator is None:
        pytest.skip("compiled, and not run: no qemu-aarch64")
    for artifact in (models["mos"], models["boxes"]):
        done = call(emulator, runner, "detect", artifact.path, 1, *triples(pictures))
        assert done.returncode == 0, done.stderr
        rows = [json.loads(line)["faces"] for line in done.stdout.splitlines()]
        pipeline = answers.open_pipeline(artifact)
        assert all(same(row, pipeline.detect(i)) for row, i in zip(rows, pictures.values(), strict=True))
    asked = shutil.copy(runner, tmp_path / "copy")
    emulated = tmp_path / "emulated"
    emulated.write_text(f'#!/bin/sh\nexec {emulator} {asked} "$@"\n')
    emulated.chmod(0o755)
    found = answer(measure(emulated, request([models["mos"].path], pictures)))["opening"]
    assert len(found["artifacts"][0]["times"][0]) == 2


@pytest.fixture(scope="module")
def real(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runner with ncnn itself, built as the documentation says."""
    build = tmp_path_factory.mktemp("build")
    return build_with_ncnn(answers.RUNNER, build, "runner", "-DCMAKE_CXX_FLAGS=-Werror")


@pytest.mark.parametrize("target", ["ncnn-fp32", "ncnn-fp16"])
def test_with_ncnn_it_finds_the_faces_of_python(target: str, real: Path, tmp_path: Path) -> None:
    for module in ("ncnn", "pnnx"):
        pytest.importorskip(module)
    artifact = export("mos-tiny", target, None, tmp_path / "tiny", input_size=(96, 128))
    answers.write_model_text(artifact)
    photo = cv2.imread(str(PHOTO))
    assert photo is not None
    image: Pixels = np.asarray(photo, np.uint8)
    pictures = {tmp_path / "a": image, tmp_path / "b": np.tile(image, (2, 2, 1)), tmp_path / "c": image[:90, 200:]}
    for path, pixels in pictures.items():
        pixels.tofile(path)
    found = answer(measure(real, request([artifact.path], pictures)))["opening"]
    (one,) = found["artifacts"]
    assert np.array(one["times"]).shape == (4, 2, 3)
    assert (np.array(one["times"])[:3] > 0).all()
    with load(artifact, threads=1) as pipeline:
        wanted = [pipeline.detect(pixels) for pixels in pictures.values()]
    difference = compare_faces(wanted, [[read_face(f) for f in faces] for faces in one["faces"]])
    assert difference.same_faces
    assert difference.matched >= 1
    # Two builds of ncnn.
    assert max(difference.box, difference.landmarks, difference.angle) < (0.5 if target == "ncnn-fp16" else 0.05)


def read_face(row: dict[str, Any]) -> Face:
    landmarks = tuple((x, y) for x, y in row["landmarks"])
    return Face(tuple(row["box"]), row["score"], landmarks, row["yaw"], row["pitch"], row["roll"])
