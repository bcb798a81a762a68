"""The command line: what it prints where, and how it ends."""

from __future__ import annotations

import dataclasses
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import pytest
import torch

from facedeploy.artifact.folder import Artifact, write_manifest
from facedeploy.benchmarks.record import Record
from facedeploy.benchmarks.record_file import write_record
from facedeploy.cli.app import OPTIONS, main
from facedeploy.core.synthetic_faces import group_photo
from facedeploy.models import registry
from facedeploy.runtimes.tensorrt_api import gpu_available
from facedeploy.verification.faces import FACE_LIMITS
from tests.conftest import GetArtifact, GetMos, GetWeights
from tests.support.fill import fill
from tests.support.records import make_record

COMMANDS = tuple(OPTIONS)
HEAVY = {"torch", "cv2", "onnx", "onnxruntime", "openvino", "ncnn", "pnnx", "numpy", "tensorrt", "tensorrt_rtx", "tqdm"}
# With these the deterministic weights, which are no detector, answer to a drawn picture with a few boxes.
EAGER = ("-O", "thresholds=[0.5,0.5,0.5]", "-O", "min_face=24")
without_gpu = pytest.mark.skipif(gpu_available(), reason="there is a CUDA device here")


@dataclass(frozen=True)
class Result:
    status: int
    out: str
    err: str

    @property
    def objects(self) -> list[dict[str, Any]]:
        """The JSON lines of stdout; anything else on it fails."""
        return [json.loads(line) for line in self.out.splitlines()]

    def refused(self, *names: object) -> str:
        """Check that a user's mistake ended in one sentence on stderr, and return it."""
        assert self.status == 2, self
        assert self.out == ""
        assert "Traceback" not in self.err
        message = self.err.splitlines()[-1]
        assert message.startswith("facedeploy: "), self.err
        for name in names:
            assert str(name) in message
        return message


class Run(Protocol):
    def __call__(self, *args: object) -> Result: ...


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Run the command line in this process; what native code prints is caught as well."""
    handler = signal.getsignal(signal.SIGTERM)

    def call(*args: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["facedeploy", *map(str, args)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code
        assert code is None or isinstance(code, int)
        return Result(code or 0, *capfd.readouterr())

    yield call
    signal.signal(signal.SIGTERM, handler)


def process(*args: object) -> Result:
    command = [sys.executable, "-m", "facedeploy", *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return Result(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two drawn pictures, 60x120 and 72x100."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(1)
    for name, (height, width) in {"a.png": (60, 120), "b.png": (72, 100)}.items():
        cv2.imwrite(str(folder / name), group_photo(rng, height, width, 2))
    return folder


@pytest.fixture(scope="session")
def group(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn picture in which the published weights find faces, 240x480."""
    path = tmp_path_factory.mktemp("group") / "group.png"
    cv2.imwrite(str(path), group_photo(np.random.default_rng(1), 240, 480, 3))
    return path


@pytest.fixture
def eager(artifact: GetArtifact, run: Run) -> Run:
    """`detect` with an artifact whose weights answer to everything."""
    path = artifact("torch-fp32").path

    def call(*args: object) -> Result:
        return run("detect", path, *args, *EAGER)

    return call


def tree(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*")}


def test_importing_the_command_line_imports_nothing_heavy() -> None:
    """What makes `facedeploy --help` answer at once on any machine."""
    code = (
        "import sys, json\n"
        "from facedeploy.cli.app import main\n"
        "sys.argv = ['facedeploy', *sys.argv[1:]]\n"
        "try:\n main()\n"
        "except SystemExit:\n print('\\n' + json.dumps(sorted(sys.modules)))"
    )
    for args in (["--help"], ["detect", "--help"], ["--version"]):
        done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, check=True)
        modules = set(json.loads(done.stdout.splitlines()[-1]))
        assert "facedeploy.cli.app" in modules
        assert not HEAVY & modules


def test_help_lists_the_commands() -> None:
    result = process("--help")
    assert result.status == 0
    assert result.err == ""
    for command in COMMANDS:
        assert command in result.out


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_of_each_command(run: Run, command: str, flag: str) -> None:
    result = run(command, flag)
    assert result.status == 0
    assert result.err == ""
    assert "Usage:" in result.out
    assert command in result.out


def test_version(run: Run) -> None:
    result = run("--version")
    assert result.status == 0
    assert result.out[0].isdigit()


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["nonsense"],
        ["export"],
        ["detect", "somewhere"],
        ["detect", "somewhere", "p.png", "--threads", "-1"],
        ["detect", "somewhere", "p.png", "--threshold", "1.5"],
        ["detect", "somewhere", "p.png", "--threshold", "nan"],
        ["detect", "somewhere", "p.png", "--no-such-option"],
        ["benchmark"],
        ["benchmark", "somewhere", "--images", "p.png", "--rounds", "0"],
        ["benchmark", "somewhere", "--images", "p.png", "--rounds", "many"],
        ["benchmark", "somewhere", "--images", "p.png", "--seconds", "0"],
        ["benchmark", "somewhere", "--images", "p.png", "--streams", "0"],
        ["compare"],
        ["compare", "one.json"],
        ["verify"],
        ["build"],
    ],
    ids=" ".join,
)
def test_call_that_is_not_one(run: Run, args: list[str]) -> None:
    result = run(*args)
    assert result.status == 2
    assert "Usage:" in result.out + result.err
    assert "Traceback" not in result.err


def test_models_as_text(run: Run) -> None:
    result = run("models")
    assert result.status == 0
    assert result.err == ""
    rows = {words[0]: words[1:] for words in map(str.split, result.out.splitlines()) if len(words) == 5}
    assert {name: rows[name][:2] for name in ("pnet", "rnet", "onet")} == {
        "pnet": ["6,874", "0.0"],
        "rnet": ["60,115", "0.2"],
        "onet": ["224,404", "0.9"],
    }
    assert "licence: none stated, or MIT; products: not stated" in result.out
    assert "docs/explanation/mos-tiny.md); products: not allowed" in result.out


def test_models_as_json(run: Run) -> None:
    result = run("models", "--json")
    assert result.status == 0
    models = {m["id"]: m for m in result.objects}
    assert set(models) == set(registry.MODELS)
    assert set(models["mtcnn"]) == {"version", "id", "title", "weights", "licence", "products", "networks"}
    networks = models["mtcnn"]["networks"]
    assert all(set(n) == {"network", "parameters", "size", "shape", "macs"} for n in networks)
    assert [(n["network"], n["parameters"]) for n in networks] == [("pnet", 6874), ("rnet", 60115), ("onet", 224404)]


def test_doctor(run: Run) -> None:
    text, lines = run("doctor"), run("doctor", "--json")
    assert text.status == lines.status == 0
    rows = lines.objects
    assert [r["backend"] for r in rows] == ["torch", "onnx", "openvino", "ncnn", "trt"]
    for row in rows:
        assert set(row) == {"version", "backend", "versions", "export", "run", "note"}
        assert row["run"] or row["note"]
        assert row["backend"] in text.out
        assert all(version in text.out for version in row["versions"].values())
    assert rows[0]["versions"] == {"torch": torch.__version__}


def test_export_as_json(run: Run, weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    size = ("--input-size", "120x160")
    result = run("export", "mtcnn", "--target", "torch-fp32", "--weights", weights, "-o", out, *size, *EAGER, "--json")
    assert result.status == 0
    assert result.err == ""
    (report,) = result.objects
    artifact = Artifact.open(out)
    assert set(report) == {"version", "artifact", "size", "parity"}
    assert report["artifact"] == str(out)
    assert report["size"] == artifact.size
    assert [(r["network"], r["output"]) for r in report["parity"]] == [
        ("pnet", "score"),
        ("pnet", "box"),
        ("rnet", "score"),
        ("rnet", "box"),
        ("onet", "score"),
        ("onet", "box"),
        ("onet", "landmarks"),
    ]
    assert artifact.manifest.pipeline.config["thresholds"] == [0.5, 0.5, 0.5]
    axes = {a.name: a.maximum for a in artifact.manifest.network("pnet").spec.axes}
    assert axes == {"height": 120, "width": 160}
    assert tree(tmp_path) == {"out"} | {f"out/{p}" for p in tree(out)}


def test_export_into_a_folder_named_after_the_target(
    run: Run, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("export", "mtcnn", "--target", "torch-fp32", "--weights", weights)
    assert result.status == 0
    assert result.out.startswith("mtcnn-torch-fp32: 3 networks, ")
    assert len(result.out.splitlines()) == 1
    assert Artifact.open(tmp_path / "mtcnn-torch-fp32").manifest.model == "mtcnn"


@pytest.mark.slow
def test_export_with_converters_prints_only_json(weights: Path, tmp_path: Path) -> None:
    """The converters like to talk; in a pipe, only the answer is heard."""
    out = tmp_path / "out"
    result = process("export", "mtcnn", "--target", "onnx-fp32", "--weights", weights, "-o", out, "--json")
    assert result.status == 0, result.err
    assert [o["artifact"] for o in result.objects] == [str(out)]
    assert not result.err


def test_export_for_a_target_that_does_not_exist(run: Run, weights: Path, tmp_path: Path) -> None:
    result = run("export", "mtcnn", "--target", "tflite-fp32", "--weights", weights, "-o", tmp_path / "out")
    targets = (
        "torch-fp32, onnx-fp32, openvino-fp32, openvino-fp16, openvino-bf16, openvino-int8, ncnn-fp32, ncnn-fp16, "
        "ncnn-int8, trt-fp32, trt-fp16, trt-int8"
    )
    result.refused("'tflite-fp32'", targets)
    assert tree(tmp_path) == set()


def test_export_of_a_model_that_does_not_exist(run: Run, weights: Path, tmp_path: Path) -> None:
    result = run("export", "retina", "--target", "onnx-fp32", "--weights", weights, "-o", tmp_path / "out")
    result.refused("'retina'", *registry.MODELS)
    assert tree(tmp_path) == set()


def test_export_leaves_a_folder_that_holds_something(run: Run, weights: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("keep me")
    result = run("export", "mtcnn", "--target", "torch-fp32", "--weights", weights, "-o", tmp_path)
    result.refused(tmp_path, "-o")
    assert tree(tmp_path) == {"precious"}
    assert (tmp_path / "precious").read_text() == "keep me"


@pytest.mark.parametrize(
    "size", ["480", "480x", "x640", "0x640", "480x0", "480X640", "480x640x3", "99999x640", "-1x1", ""]
)
def test_input_size_that_is_none(run: Run, weights: Path, tmp_path: Path, size: str) -> None:
    where = ("--weights", weights, "-o", tmp_path / "out")
    result = run("export", "mtcnn", "--target", "torch-fp32", *where, f"--input-size={size}")
    result.refused(repr(size), "HEIGHTxWIDTH")
    assert tree(tmp_path) == set()


@pytest.mark.parametrize(
    ("option", "named"),
    [
        ("min_face", "KEY=VALUE"),
        ("=20", "KEY=VALUE"),
        ("nose=1", "options are min_face"),
        ("min_face=large", "min_face"),
        ("min_face=0", "min_face"),
        ("min_face=NaN", "min_face"),
        ("min_face=true", "min_face"),
        ("thresholds=[0.5,0.5]", "thresholds"),
        ("thresholds=[0.5,0.5,2]", "thresholds"),
        ("scale_factor=1", "scale_factor"),
        ('preprocess={"colours":"cmyk"}', "preprocess.colours"),
        ('preprocess={"gamma":2}', "preprocess.gamma"),
    ],
)
@pytest.mark.parametrize("command", ["export", "detect"])
def test_pipeline_option_that_is_none(
    run: Run, artifact: GetArtifact, weights: Path, photos: Path, tmp_path: Path, command: str, option: str, named: str
) -> None:
    out = tmp_path / "out"
    call = {
        "export": ("export", "mtcnn", "--target", "torch-fp32", "--weights", weights, "-o", out),
        "detect": ("detect", artifact("torch-fp32").path, photos),
    }[command]
    run(*call, "-O", option).refused(named)
    assert tree(tmp_path) == set()


def test_verify_of_a_good_artifact(run: Run, artifact: GetArtifact, weights: Path) -> None:
    path = artifact("onnx-fp32").path
    result = run("verify", path, "--weights", weights)
    assert result.status == 0
    assert result.err == ""
    assert "onet.landmarks" in result.out
    assert result.out.splitlines()[-1] == "verified"
    (report,) = run("verify", path, "--weights", weights, "--json").objects
    assert set(report) == {"version", "outputs", "faces", "problems", "notes"}
    assert len(report["outputs"]) == 7
    assert {r["runtime"] for r in report["outputs"]} == {"onnxruntime"}
    assert report["faces"] is None
    assert report["problems"] == []


def test_verify_compares_faces(run: Run, real_artifact: GetArtifact, published: Path, group: Path) -> None:
    call = ("verify", real_artifact("torch-fp32").path, "--weights", published, "--images", group)
    result = run(*call)
    assert result.status == 0
    assert "faces on 1 pictures: " in result.out
    assert "0 missing, 0 extra" in result.out
    (report,) = run(*call, "--json").objects
    assert report["faces"]["pictures"] == 1
    assert report["faces"]["matched"] > 0
    assert report["problems"] == []


def test_verify_with_other_weights(run: Run, artifact: GetArtifact, weights: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(weights, tmp_path / "other"))
    state = fill(registry.get("mtcnn").build()["rnet"].state_dict(), gain=1.0)
    torch.save(state, other / "rnet_epoch_20.pt")
    result = run("verify", artifact("onnx-fp32").path, "--weights", other)
    result.refused(other / "rnet_epoch_20.pt", "SHA-256")


def test_verify_without_weights_or_pictures(run: Run, artifact: GetArtifact, weights: Path, tmp_path: Path) -> None:
    path = artifact("torch-fp32").path
    run("verify", path, "--weights", tmp_path / "absent").refused()
    run("verify", path, "--weights", weights, "--images", tmp_path / "absent").refused(tmp_path / "absent")
    run("verify", tmp_path / "absent", "--weights", weights).refused(tmp_path / "absent")


def test_detect_as_text(eager: Run, photos: Path) -> None:
    result = eager(photos / "a.png")
    assert result.status == 0
    assert result.err == ""
    head, *faces = result.out.splitlines()
    assert head == f"{photos / 'a.png'}: {len(faces)} faces"
    assert len(faces) >= 2
    assert all(len(line.split()) == 5 for line in faces)


def check_documented(record: dict[str, Any]) -> None:
    """The object of DESIGN and README, for a model with landmarks and no pose."""
    assert set(record) == {"version", "image", "width", "height", "faces"}
    for face in record["faces"]:
        assert set(face) == {"box", "score", "landmarks"}
        x1, y1, x2, y2 = face["box"]
        assert all(isinstance(v, float) for v in (x1, y1, x2, y2))
        assert 0 <= face["score"] <= 1
        assert [len(point) for point in face["landmarks"]] == [2] * 5


def test_detect_in_a_folder_as_json(eager: Run, photos: Path) -> None:
    records = eager(photos, "--json").objects
    assert [(r["image"], r["height"], r["width"]) for r in records] == [
        (str(photos / "a.png"), 60, 120),
        (str(photos / "b.png"), 72, 100),
    ]
    assert all(r["faces"] for r in records)
    for record in records:
        check_documented(record)


def test_detect_streams_json_through_a_pipe(artifact: GetArtifact, photos: Path) -> None:
    result = process("detect", artifact("torch-fp32").path, photos, "--json", *EAGER)
    assert result.status == 0
    assert result.err == ""
    assert [Path(r["image"]).name for r in result.objects] == ["a.png", "b.png"]


def test_detect_in_a_picture_of_one_pixel(eager: Run, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "p.png"), np.zeros((1, 1, 3), np.uint8))
    (record,) = eager(tmp_path / "p.png", "--json").objects
    assert record == {"version": 1, "image": str(tmp_path / "p.png"), "width": 1, "height": 1, "faces": []}


def test_threshold_leaves_out_lower_scores(eager: Run, photos: Path) -> None:
    (everything,) = eager(photos / "a.png", "--json").objects
    scores = sorted(f["score"] for f in everything["faces"])
    between = (scores[0] + scores[-1]) / 2
    (some,) = eager(photos / "a.png", "--json", "--threshold", between).objects
    assert [f for f in everything["faces"] if f["score"] >= between] == some["faces"]
    assert 0 < len(some["faces"]) < len(scores)
    (none,) = eager(photos / "a.png", "--json", "--threshold", 1).objects
    assert none["faces"] == []


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A video of three frames."""
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (120, 60))
    for seed in range(3):
        writer.write(group_photo(np.random.default_rng(seed), 60, 120, 2))
    writer.release()
    return path


def test_detect_in_a_video(eager: Run, clip: Path) -> None:
    records = eager(clip, "--json").objects
    assert [r.pop("frame") for r in records] == [0, 1, 2]
    for record in records:
        check_documented(record)
        assert record["image"] == str(clip)
    lines = eager(clip).out.splitlines()
    assert [line.split(":")[0] for line in lines if not line.startswith(" ")] == [f"{clip} frame {i}" for i in range(3)]


def test_save_draws_the_faces(eager: Run, photos: Path, clip: Path, tmp_path: Path) -> None:
    result = eager(photos, clip, "--save", tmp_path / "out", "--json")
    assert result.status == 0
    assert len(result.objects) == 5
    assert tree(tmp_path / "out") == {"a.png", "b.png", "clip.mp4"}
    original, drawn = cv2.imread(str(photos / "a.png")), cv2.imread(str(tmp_path / "out" / "a.png"))
    assert original is not None
    assert drawn is not None
    assert drawn.shape == original.shape
    assert 0 < np.any(drawn != original, axis=2).mean() < 0.9
    capture = cv2.VideoCapture(str(tmp_path / "out" / "clip.mp4"))
    assert [capture.read()[0] for _ in range(4)] == [True, True, True, False]


def test_save_keeps_inputs_of_one_name_apart(eager: Run, photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path / "one")
    shutil.copytree(photos, tmp_path / "two")
    assert eager(tmp_path / "one", tmp_path / "two", "--save", tmp_path / "out").status == 0
    assert tree(tmp_path / "out") == {"a.png", "b.png", "a-2.png", "b-2.png"}


def test_save_of_a_picture_without_a_suffix(eager: Run, photos: Path, tmp_path: Path) -> None:
    """It was read by its content, and has no less right to be written."""
    path = Path(shutil.copy(photos / "a.png", tmp_path / "photo"))
    result = eager(path, "--save", tmp_path / "out")
    if result.status:
        result.refused("photo")
    else:
        assert len(tree(tmp_path / "out")) == 1


def test_save_does_not_overwrite(eager: Run, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "b.png").write_text("keep me")
    eager(photos, "--save", tmp_path).refused(tmp_path / "b.png", "--save")
    assert tree(tmp_path) == {"b.png"}
    assert (tmp_path / "b.png").read_text() == "keep me"


def test_save_beside_the_originals_does_not_overwrite_them(eager: Run, photos: Path) -> None:
    before = (photos / "a.png").read_bytes()
    eager(photos, "--save", photos).refused(photos / "a.png")
    assert (photos / "a.png").read_bytes() == before


@pytest.mark.parametrize("place", ["file", "file/under"])
def test_save_where_a_file_is_in_the_way(eager: Run, photos: Path, tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("keep me")
    eager(photos, "--save", tmp_path / place).refused(tmp_path / place)
    assert (tmp_path / "file").read_text() == "keep me"


def test_detect_in_what_is_no_picture(eager: Run, tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("this is no picture")
    (tmp_path / "text.mp4").write_text("this is no video")
    (tmp_path / "empty").mkdir()
    for name in ("text.jpg", "text.mp4", "empty", "absent.png"):
        eager(tmp_path / name).refused(tmp_path / name)
        eager(tmp_path / name, "--json").refused(tmp_path / name)


def test_detect_stops_at_the_first_file_that_is_no_picture(eager: Run, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("this is no picture")
    result = eager(photos / "a.png", tmp_path / "text.jpg", photos / "b.png", "--json")
    assert result.status == 2
    assert [r["image"] for r in result.objects] == [str(photos / "a.png")]
    assert result.err.splitlines()[-1].startswith(f"facedeploy: {tmp_path / 'text.jpg'} is not a picture")


def test_mistakes_end_a_process_without_a_traceback(artifact: GetArtifact, tmp_path: Path) -> None:
    process("detect", tmp_path, tmp_path / "p.png").refused(tmp_path)
    process("detect", artifact("torch-fp32").path, tmp_path / "p.png").refused(tmp_path / "p.png")


@pytest.mark.parametrize("command", [("models", "--json"), ("doctor", "--json")], ids=" ".join)
def test_reader_that_leaves_the_pipe(command: tuple[str, ...]) -> None:
    """141, as a shell reports SIGPIPE. 1 would say that the answer is no."""
    arguments = [sys.executable, "-m", "facedeploy", *command]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        errors = running.stderr.read()
    assert errors == ""
    assert running.returncode == 141


def test_artifact_that_was_changed(run: Run, artifact: GetArtifact, photos: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(artifact("torch-fp32").path, tmp_path / "copy"))
    (copy / "rnet.safetensors").write_bytes(b"")
    for command in (("detect", copy, photos), ("benchmark", copy, "--images", photos)):
        run(*command).refused(copy / "rnet.safetensors")


def test_runtime_that_cannot_stand_in(run: Run, artifact: GetArtifact, photos: Path) -> None:
    path = artifact("torch-fp32").path
    run("detect", path, photos, "--runtime", "openvino").refused("'openvino'", "onnxruntime")
    run("detect", path, photos, "--runtime", "onnxruntime").refused("torch-fp32", "ONNX")


@without_gpu
def test_tensorrt_artifact_without_a_gpu(run: Run, artifact: GetArtifact, photos: Path) -> None:
    for command in (("detect", photos), ("benchmark", "--images", photos)):
        name, *rest = command
        run(name, artifact("trt-fp32").path, *rest).refused("--runtime onnxruntime")


def test_tensorrt_graph_in_onnx_runtime(run: Run, artifact: GetArtifact, photos: Path) -> None:
    standin = run("detect", artifact("trt-fp32").path, photos, "--json", *EAGER, "--runtime", "onnxruntime")
    assert standin.status == 0
    reference = run("detect", artifact("onnx-fp32").path, photos, "--json", *EAGER)
    assert standin.objects == reference.objects
    assert all(r["faces"] for r in standin.objects)


def test_published_weights_find_the_drawn_faces(run: Run, real_artifact: GetArtifact, group: Path) -> None:
    path = real_artifact("torch-fp32").path
    (record,) = run("detect", path, group, "--json").objects
    check_documented(record)
    assert record["faces"]
    assert max(f["score"] for f in record["faces"]) > 0.9


def test_min_face_leaves_out_the_small_ones(run: Run, real_artifact: GetArtifact, group: Path, crowd: Path) -> None:
    """The faces of the crowd are 5 to 16 pixels wide, those of the group 70."""

    def count(picture: Path, *options: str) -> int:
        (record,) = run("detect", real_artifact("torch-fp32").path, picture, "--json", *options).objects
        return len(record["faces"])

    assert count(crowd) > count(crowd, "-O", "min_face=20") > count(crowd, "-O", "min_face=40")
    assert count(group, "-O", "min_face=40") > 0


def test_benchmark_as_json(run: Run, artifact: GetArtifact, photos: Path, tmp_path: Path) -> None:
    paths = [artifact(target).path for target in ("onnx-fp32", "torch-fp32")]
    result = run(
        *("benchmark", *paths, "--images", photos, "--rounds", 6, "--threads", 1, *EAGER),
        *("--no-cold", "--json", "--save", tmp_path / "r.json"),
    )
    assert result.status == 0
    assert result.err == ""
    (report,) = result.objects
    assert report == json.loads((tmp_path / "r.json").read_text())
    assert report["pictures"] == ["a.png", "b.png"]
    assert report["openings"] == [2, 1, 1, 1, 1]
    assert report["protocol"]["options"] == {"thresholds": [0.5, 0.5, 0.5], "min_face": 24}
    assert report["max_drop"] == 0.5
    first, second = report["measurements"]
    assert (first["name"], second["name"]) == ("onnx-fp32", "torch-fp32")
    # The same networks: nothing is lost.
    assert first["lost"] == second["lost"] == 0
    for row, path in zip((first, second), paths, strict=True):
        assert row["size"] == Artifact.open(path).size
        assert row["runtime"]["threads"] == 1
        assert row["cold"] is None
        assert [len(times) for times in row["samples"]["whole"]] == [2] * 6
        whole = row["spread"]["whole"]
        assert 0 < whole["p50"]["low"] <= whole["p50"]["value"] <= whole["p50"]["high"]
        assert whole["p50"]["value"] <= whole["p90"] <= whole["p99"]
        assert row["spread"]["network"]["mean"]["value"] < whole["mean"]["value"]
        assert sum(map(len, row["found"])) > 0
    assert first["ratio"] == {"value": 1.0, "low": 1.0, "high": 1.0}


def test_benchmark_as_text(run: Run, artifact: GetArtifact, photos: Path) -> None:
    path = artifact("onnx-fp32").path
    result = run("benchmark", path, "--images", photos / "a.png", "--rounds", 1, "--layers")
    assert result.status == 0
    assert result.err == ""
    summary, header, row, executed, layers, *rest = result.out.splitlines()
    assert summary.startswith("1 picture, 1 round in 1 opening, ")
    assert {"p50", "load", "first", "memory", "faces"} <= set(header.split())
    assert row.split()[:2] == ["onnx-fp32", "onnx-fp32"]
    assert executed.startswith("layers by the precision they ran in: onnx-fp32 ")
    assert layers.startswith("onnx-fp32: the slowest of ")
    notes = [line for line in rest if line.startswith("note: ")]
    assert any("Fewer than 6 rounds prove nothing" in line for line in notes)
    assert not any(line.startswith("fastest") for line in rest)


def test_benchmark_that_cannot_be_saved_does_not_begin(
    run: Run, artifact: GetArtifact, photos: Path, tmp_path: Path
) -> None:
    call = ("benchmark", artifact("onnx-fp32").path, "--images", photos, "--seconds", 10**6)
    run(*call, "--save", tmp_path / "absent" / "r.json").refused(tmp_path / "absent" / "r.json")
    run(*call, "--save", tmp_path).refused(tmp_path)


def save(path: Path, record: Record) -> Path:
    write_record(record, path)
    return path


def test_compare(run: Run, tmp_path: Path) -> None:
    old, new = (save(tmp_path / f"{i}.json", make_record(seed=i)) for i in (0, 1))
    text, as_json = run("compare", old, new), run("compare", old, new, "--json")
    assert text.status == as_json.status == 0
    assert text.err == ""
    names = [m.name for m in make_record().measurements]
    assert [line.split(":")[0] for line in text.out.splitlines()[:3]] == names
    (result,) = as_json.objects
    assert set(result) == {"version", "changes", "only_old", "only_new", "remarks"}
    assert [c["name"] for c in result["changes"]] == names
    assert set(result["changes"][1]) == {"name", "same_files", "times", "relative"}


def test_compare_what_cannot_be_compared(run: Run, tmp_path: Path) -> None:
    record = make_record()
    protocol = dataclasses.replace(record.protocol, threads=7)
    other = dataclasses.replace(record, protocol=protocol, protocol_digest=protocol.digest)
    old, new = save(tmp_path / "old.json", record), save(tmp_path / "new.json", other)
    run("compare", old, new).refused("different protocols", "threads")
    run("compare", old, tmp_path / "absent.json").refused(tmp_path / "absent.json")
    (tmp_path / "text.json").write_text("this is no record")
    run("compare", tmp_path / "text.json", old).refused(tmp_path / "text.json")


def test_benchmark_of_what_is_not_there(run: Run, artifact: GetArtifact, photos: Path, tmp_path: Path) -> None:
    good = artifact("torch-fp32").path
    run("benchmark", good, tmp_path / "absent", "--images", photos).refused(tmp_path / "absent")
    run("benchmark", good, "--images", tmp_path).refused(tmp_path)
    run("benchmark", good, "--images", photos, "--threads", 1, "--streams", 2).refused("2 streams", "not 1")


@pytest.fixture
def pending(artifact: GetArtifact, tmp_path: Path) -> Path:
    """A trt artifact as a machine without TensorRT writes it."""
    folder = Path(shutil.copytree(artifact("trt-fp32").path, tmp_path / "recipe"))
    manifest = Artifact.open(folder).manifest
    networks = []
    for network in manifest.networks:
        (folder / network.files["engine"].path).unlink()
        files = {"onnx": network.files["onnx"]}
        networks.append(dataclasses.replace(network, files=files, engine="pending"))
    write_manifest(folder, dataclasses.replace(manifest, networks=tuple(networks)))
    return folder


def test_pending_artifact_says_how_to_go_on(run: Run, pending: Path, photos: Path) -> None:
    run("detect", pending, photos).refused("facedeploy build", "--runtime onnxruntime")
    assert run("detect", pending, photos, "--runtime", "onnxruntime").status == 0


def test_build_finishes_a_pending_artifact(run: Run, pending: Path) -> None:
    before = Artifact.open(pending).manifest
    for _ in range(2):  # Once more: a new TensorRT wants new engines, and the old ones go.
        result = run("build", pending)
        assert result.status == 0, result.err
        assert result.out == f"{pending}: 3 engines built\n"
        built = Artifact.open(pending)
        assert [n.engine for n in built.manifest.networks] == ["ready"] * 3
        engines = {built.file(n.spec.name, "engine").name for n in built.manifest.networks}
        assert tree(pending) == {"manifest.json", "pnet.onnx", "rnet.onnx", "onet.onnx"} | engines
        assert len(engines) == 3
        assert built.manifest.parity == before.parity
        assert built.manifest.source == before.source


def test_build_replaces_the_engines_of_export(run: Run, artifact: GetArtifact, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(artifact("trt-fp32").path, tmp_path / "ready"))
    assert run("build", folder).status == 0
    assert not (folder / "pnet.engine").exists()
    assert len(list(folder.glob("*.engine"))) == 3
    Artifact.open(folder)


def test_build_of_what_needs_none(run: Run, artifact: GetArtifact, tmp_path: Path) -> None:
    path = artifact("torch-fp32").path
    before = tree(path)
    run("build", path).refused(path, "torch-fp32")
    run("build", tmp_path).refused(tmp_path)
    assert tree(path) == before


# --- MOS ---


@pytest.mark.slow
def test_detect_gives_head_pose(run: Run, mos_artifact: GetMos, photos: Path, tmp_path: Path) -> None:
    path = mos_artifact("mos-m", "torch-fp32").path
    result = run("detect", path, photos / "a.png", "--json", "--threads", 1, "--save", tmp_path)
    assert result.status == 0
    (record,) = result.objects
    assert record["faces"]
    for face in record["faces"]:
        assert set(face) == {"box", "score", "landmarks", "yaw", "pitch", "roll"}
        assert all(-99 <= face[angle] <= 96 for angle in ("yaw", "pitch", "roll"))
    assert (tmp_path / "a.png").is_file()


def test_options_of_mos_reach_the_pipeline(run: Run, mos_artifact: GetMos, photos: Path) -> None:
    path = mos_artifact("mos-m", "torch-fp32").path

    def count(*options: str) -> int:
        (record,) = run("detect", path, photos / "a.png", "--json", *options).objects
        return len(record["faces"])

    assert count() > count("-O", "keep=2") == 2
    run("detect", path, photos / "a.png", "-O", "protocol=original").refused("--input-size any")
    run("detect", path, photos / "a.png", "-O", "protocol=zoom").refused("protocol", "stretch")


def test_verify_compares_head_pose(
    run: Run, mos_artifact: GetMos, mos_weights: GetWeights, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, weights = mos_artifact("mos-m", "torch-fp32").path, mos_weights("mos-m")
    assert run("verify", path, "--weights", weights, "--images", photos, "--threads", 1).status == 0
    # Even no difference is too much now.
    monkeypatch.setitem(FACE_LIMITS, "fp32", dataclasses.replace(FACE_LIMITS["fp32"], degrees=-1.0))
    result = run("verify", path, "--weights", weights, "--images", photos, "--threads", 1)
    assert result.status == 1
    assert "angles are off by" in result.out + result.err


@pytest.mark.parametrize(
    ("option", "value"),
    [("--deform-conv", "plugin"), ("--input-size", "480"), ("--input-size", "all"), ("--input-size", "31x640")],
)
def test_export_option_that_is_none(run: Run, mos_weights: GetWeights, tmp_path: Path, option: str, value: str) -> None:
    to = ("--weights", mos_weights("mos-m"), "-o", tmp_path / "out")
    run("export", "mos-m", "--target", "torch-fp32", *to, option, value).refused(value)
    assert tree(tmp_path) == set()


@pytest.mark.parametrize("target", ["ncnn-fp16", "trt-fp32"])
def test_export_of_any_size_for_a_backend_of_one(
    run: Run, mos_weights: GetWeights, tmp_path: Path, target: str
) -> None:
    to = ("--weights", mos_weights("mos-m"), "-o", tmp_path / "out")
    run("export", "mos-m", "--target", target, *to, "--input-size", "any").refused(target, "--input-size HEIGHTxWIDTH")
    assert tree(tmp_path) == set()


@pytest.mark.slow
def test_export_takes_the_form_of_deformable_convolutions(run: Run, mos_weights: GetWeights, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    to = ("--weights", mos_weights("mos-s"), "-o", tmp_path / "out", "--input-size", "32x32")
    assert run("export", "mos-s", "--target", "openvino-fp32", *to, "--deform-conv", "gridsample").status == 0
    detector, pose = Artifact.open(tmp_path / "out").manifest.networks
    assert (detector.lowerings, pose.lowerings) == ({"DeformConv": "gridsample"}, {})
    assert detector.spec.inputs[0].shape == (1, 3, 32, 32)
