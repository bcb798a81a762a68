"""What goes wrong is said, by name, and leaves nothing that looks like an artifact."""

from __future__ import annotations

import os
import pickle
import re
import shutil
import signal
import struct
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper

from facedeploy.artifact.folder import Artifact, describe_file
from facedeploy.cli.app import main
from facedeploy.core.errors import (
    ArtifactError,
    BackendUnavailableError,
    CheckpointError,
    ConversionError,
    FacedeployError,
    InputError,
    ParityError,
)
from facedeploy.core.serialization import to_plain
from facedeploy.export.exporter import export
from facedeploy.graph import from_torch
from facedeploy.verification.verify import verify
from tests.artifact.test_artifact import one_sentence, tree
from tests.conftest import GetArtifact
from tests.support.exported import real_trace
from tests.support.manifests import Edit, edit

DEADLINE_SECONDS = 120


@pytest.fixture
def checkpoints(weights: Path, tmp_path: Path) -> Path:
    """A private copy of the checkpoints."""
    return Path(shutil.copytree(weights, tmp_path / "weights"))


def failure(kind: type[FacedeployError], weights: Path, target: str = "torch-fp32") -> str:
    """Export, which must fail with `kind` and leave no trace. Returns the message."""
    place = weights.parent / "place"
    place.mkdir()
    with pytest.raises(kind) as caught:
        export("mtcnn", target, weights, place / "out")
    assert type(caught.value) is kind
    assert tree(place) == set()
    return one_sentence(str(caught.value))


def test_checkpoint_of_another_network(checkpoints: Path) -> None:
    shutil.copy(checkpoints / "rnet_epoch_20.pt", checkpoints / "pnet_epoch_20.pt")
    message = failure(CheckpointError, checkpoints)
    assert str(checkpoints / "pnet_epoch_20.pt") in message
    assert "unknown conv4.weight" in message or "missing conv4_1.weight" in message


@pytest.mark.parametrize("kept", [0.99, 0.5, 0.01, 0])
def test_truncated_checkpoint(checkpoints: Path, kept: float) -> None:
    file = checkpoints / "onet_epoch_20.pt"
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * kept)])
    assert str(file) in failure(CheckpointError, checkpoints)


@pytest.mark.parametrize("kept", [0.99, 0.001])
def test_truncated_safetensors(checkpoints: Path, artifact: GetArtifact, kept: float) -> None:
    (checkpoints / "rnet_epoch_20.pt").unlink()
    file = checkpoints / "rnet.safetensors"
    data = artifact("torch-fp32").file("rnet", "rnet").read_bytes()
    file.write_bytes(data[: int(len(data) * kept)])
    assert str(file) in failure(CheckpointError, checkpoints)


@pytest.mark.parametrize("content", [[1, 2, 3], {}, {"pre_layer.0.weight": "text"}, torch.zeros(3), None])
def test_checkpoint_that_is_no_state_dict(checkpoints: Path, content: object) -> None:
    file = checkpoints / "pnet_epoch_20.pt"
    torch.save(content, file)
    message = failure(CheckpointError, checkpoints)
    assert str(file) in message
    assert "state dict" in message


def test_checkpoint_that_is_text(checkpoints: Path) -> None:
    file = checkpoints / "pnet_epoch_20.pt"
    file.write_text("version https://git-lfs.github.com/spec/v1\n")
    assert str(file) in failure(CheckpointError, checkpoints)


class Exploit:
    """Unpickled by anything that trusts it, it makes a folder."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.proof),)


@pytest.mark.parametrize("nested", [False, True], ids=["alone", "among weights"])
def test_checkpoint_that_runs_code_is_not_run(checkpoints: Path, tmp_path: Path, nested: bool) -> None:
    file, proof = checkpoints / "pnet_epoch_20.pt", tmp_path / "proof"
    state = torch.load(file, weights_only=True)
    torch.save({**state, "extra": Exploit(proof)} if nested else Exploit(proof), file)
    torch.load(file, weights_only=False)
    assert proof.is_dir(), "the exploit must be a real one"
    proof.rmdir()
    message = failure(CheckpointError, checkpoints)
    assert str(file) in message
    assert "run code" in message
    assert not proof.exists()


def test_plain_pickle_that_runs_code_is_not_run(checkpoints: Path, tmp_path: Path) -> None:
    file, proof = checkpoints / "pnet_epoch_20.pt", tmp_path / "proof"
    file.write_bytes(pickle.dumps(Exploit(proof), protocol=2))
    assert str(file) in failure(CheckpointError, checkpoints)
    assert not proof.exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers(checkpoints: Path, value: float) -> None:
    file = checkpoints / "onet_epoch_20.pt"
    state = torch.load(file, weights_only=True)
    state["conv6_3.bias"][4] = value
    torch.save(state, file)
    message = failure(CheckpointError, checkpoints)
    assert str(file) in message
    assert "conv6_3.bias is not finite" in message


def test_missing_checkpoint(checkpoints: Path) -> None:
    (checkpoints / "rnet_epoch_20.pt").unlink()
    message = failure(InputError, checkpoints)
    assert str(checkpoints) in message
    assert "rnet*" in message


def test_two_checkpoints_that_could_be_meant(checkpoints: Path) -> None:
    shutil.copy(checkpoints / "rnet_epoch_20.pt", checkpoints / "rnet_epoch_19.pt")
    message = failure(InputError, checkpoints)
    assert "rnet_epoch_19.pt, rnet_epoch_20.pt" in message


def test_a_file_where_a_folder_is_needed(checkpoints: Path) -> None:
    place = checkpoints.parent / "place"
    with pytest.raises(InputError, match="pnet, rnet, onet"):
        export("mtcnn", "torch-fp32", checkpoints / "pnet_epoch_20.pt", place)
    assert not place.exists()


@pytest.mark.parametrize(
    ("module", "target", "extra"),
    [
        ("openvino", "openvino-fp32", "openvino"),
        ("ncnn", "ncnn-fp16", "ncnn"),
        ("pnnx", "ncnn-fp32", "export"),
        ("onnxruntime", "onnx-fp32", "export"),
        ("onnxsim", "onnx-fp32", "export"),
        ("onnxscript", "onnx-fp32", "export"),
        ("onnx", "trt-fp16", "export"),
        ("safetensors.torch", "torch-fp32", "export"),
    ],
)
def test_backend_that_is_not_installed(
    checkpoints: Path, monkeypatch: pytest.MonkeyPatch, module: str, target: str, extra: str
) -> None:
    monkeypatch.setattr(from_torch, "_trace", real_trace)
    monkeypatch.setitem(sys.modules, module, None)
    message = failure(BackendUnavailableError, checkpoints, target)
    assert module in message
    assert f"pip install 'facedeploy[{extra}]'" in message


def test_artifact_of_a_backend_that_is_not_installed(
    artifact: GetArtifact, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from facedeploy.pipelines.load import load

    opened = artifact("onnx-fp32")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(BackendUnavailableError, match=r"pip install 'facedeploy\[onnx\]'"):
        load(opened)


def test_without_pytorch_an_export_says_what_to_install(weights: Path, tmp_path: Path) -> None:
    """In a process of its own, where PyTorch was never imported."""
    code = """
        import sys
        class Absent:
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] == "torch":
                    raise ModuleNotFoundError("No module named 'torch'", name="torch")
        sys.meta_path.insert(0, Absent())
        from facedeploy.cli.app import main
        main()
    """
    arguments = ["export", "mtcnn", "--target", "ncnn-fp32", "--weights", str(weights), "-o", "out"]
    command = [sys.executable, "-c", textwrap.dedent(code), *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "facedeploy: torch is not installed: run `pip install 'facedeploy[export]'`\n"
    assert tree(tmp_path) == set()


def wait_for(condition: Callable[[], bool], running: subprocess.Popen[str]) -> None:
    end = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert running.poll() is None, f"it ended first: {running.communicate()}"
        assert time.monotonic() < end, "it never got so far"
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL], ids=lambda s: s.name)
def test_export_that_is_stopped(weights: Path, tmp_path: Path, stop: signal.Signals) -> None:
    """Stopped when the first network is written and the others are not."""
    place, scratch = tmp_path / "place", tmp_path / "scratch"
    place.mkdir()
    scratch.mkdir()
    arguments = ["export", "mtcnn", "--target", "onnx-fp32", "--weights", str(weights), "-o", str(place / "out")]
    with subprocess.Popen(
        [sys.executable, "-m", "facedeploy", *arguments],
        env={**os.environ, "TMPDIR": str(scratch)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        wait_for(lambda: any(place.rglob("pnet.onnx")), running)
        running.send_signal(stop)
        _, errors = running.communicate(timeout=DEADLINE_SECONDS)
    assert running.returncode not in (0, 1)
    assert "Traceback" not in errors
    if stop == signal.SIGKILL:
        assert any(place.iterdir()), "nobody could tidy up"
    else:
        assert tree(place) == set()
        assert not list(scratch.glob("tmp*"))
    assert not (place / "out").exists()
    for folder in place.iterdir():
        with pytest.raises(ArtifactError):
            Artifact.open(folder)


def refused(weights: Path, target: str) -> str:
    """Export, which must find the conversion of the first network wrong and leave no trace. Returns the message."""
    place = weights.parent / "place"
    with pytest.raises((ConversionError, ParityError)) as caught:
        export("mtcnn", target, weights, place / "out")
    assert caught.value.exit_status == 1
    assert "pnet" in str(caught.value)
    assert tree(place) == set()
    return str(caught.value)


# What happens to the files of the real pnnx (`param` and `bin` are their paths), and what the message must say.
LIES = {
    "weight": (
        r"pnet\.score in ncnn is off",
        """
        data = bytearray(bin.read_bytes())
        data[4:8] = struct.pack("<f", 3.0)
        bin.write_bytes(data)
        """,
    ),
    "layer": (
        "Confolution",
        """
        param.write_text(re.sub(r"^Convolution ", "Confolution ", param.read_text(), count=1, flags=re.M))
        """,
    ),
    "order": (
        r"pnet\.score has shape",
        """
        text = param.read_text()
        param.write_text(text.replace(" out0 ", " swap ").replace(" out1 ", " out0 ").replace(" swap ", " out1 "))
        """,
    ),
    "empty": (r"exit status 0|param", "param.write_text('')"),
    "garbage": ("param", "param.write_bytes(bytes(range(256)) * 4)"),
    "short": (r"does not load|end early", "bin.write_bytes(bin.read_bytes()[:-64])"),
    "nothing": (
        r"wrote no ncnn files for pnet \(exit status 0\)",
        """
        param.unlink()
        bin.unlink()
        """,
    ),
}


@pytest.fixture
def lying_pnnx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a program in pnnx's place that runs it, changes what it wrote, and exits with status 0."""
    pnnx = pytest.importorskip("pnnx")
    real = pnnx.EXEC_PATH

    def install(lie: str) -> None:
        program = tmp_path / "pnnx"
        head = f"""\
            #!{sys.executable}
            import pathlib, re, struct, subprocess, sys
            subprocess.run([{real!r}, *sys.argv[1:]], check=True)
            given = dict(a.split("=", 1) for a in sys.argv[1:] if "=" in a)
            param, bin = pathlib.Path(given["ncnnparam"]), pathlib.Path(given["ncnnbin"])
        """
        program.write_text(textwrap.dedent(head) + textwrap.dedent(lie))
        program.chmod(0o755)
        monkeypatch.setattr(pnnx, "EXEC_PATH", str(program))

    return install


@pytest.mark.parametrize(
    ("lie", "target"),
    [*((lie, "ncnn-fp32") for lie in LIES), ("weight", "ncnn-fp16"), ("short", "ncnn-fp16")],
)
def test_pnnx_that_lies(checkpoints: Path, lying_pnnx: Callable[[str], None], lie: str, target: str) -> None:
    said, code = LIES[lie]
    lying_pnnx(code)
    assert re.search(said, refused(checkpoints, target))


def change_weight(data: bytearray) -> None:
    data[:4] = struct.pack("<f", 3.0)


def cut(data: bytearray) -> None:
    del data[-64:]


@pytest.mark.parametrize("lie", [change_weight, cut, bytearray.clear])
def test_openvino_that_lies(
    checkpoints: Path, monkeypatch: pytest.MonkeyPatch, lie: Callable[[bytearray], object]
) -> None:
    """It saves the model with one constant changed, or without some of its constants."""
    openvino = pytest.importorskip("openvino")
    real = openvino.save_model

    def save_model(model: Any, path: str, **settings: Any) -> None:
        real(model, path, **settings)
        weights = Path(path).with_suffix(".bin")
        data = bytearray(weights.read_bytes())
        lie(data)
        weights.write_bytes(data)

    monkeypatch.setattr(openvino, "save_model", save_model)
    refused(checkpoints, "openvino-fp32")


def test_simplifier_that_lies(checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says that its graph is equal, and a weight is not."""
    onnxsim = pytest.importorskip("onnxsim")
    real = onnxsim.simplify

    def simplify(model: Any) -> tuple[Any, bool]:
        simplified, equal = real(model)
        add(simplified, "pre_layer.0.weight", 0.5)
        return simplified, equal

    monkeypatch.setattr(onnxsim, "simplify", simplify)
    assert "pnet.score in onnxruntime" in refused(checkpoints, "onnx-fp32")


def add(model: Any, name: str, value: float) -> None:
    """Add to the first number of a weight."""

    def change(array: NDArray[Any]) -> NDArray[Any]:
        array.flat[0] += value
        return array

    replace(model, name, change)


def replace(model: Any, name: str, change: Callable[[NDArray[Any]], NDArray[Any]]) -> None:
    (tensor,) = (t for t in model.graph.initializer if t.name == name)
    array = np.ascontiguousarray(change(numpy_helper.to_array(tensor).copy()))
    tensor.CopyFrom(numpy_helper.from_array(array, name))


@pytest.fixture
def copy(artifact: GetArtifact, tmp_path: Path) -> Path:
    """A private copy of an artifact."""
    return Path(shutil.copytree(artifact("onnx-fp32").path, tmp_path / "copy"))


def tamper(folder: Path, network: str, change: Callable[[Any], None]) -> None:
    """Change the graph of a network and sign the manifest again, as somebody would who means it."""
    path = folder / f"{network}.onnx"
    model = onnx.load(path)
    change(model)
    onnx.save(model, path)

    def sign(data: dict[str, Any]) -> None:
        for entry in data["networks"]:
            if entry["spec"]["name"] == network:
                entry["files"]["onnx"] = to_plain(describe_file(folder, path.name))

    edit(folder, sign)
    Artifact.open(folder)


def swap_red_and_blue(model: Any) -> None:
    replace(model, "pre_layer.0.weight", lambda array: array[:, ::-1])


def move_a_landmark(model: Any) -> None:
    add(model, "conv6_3.weight", 0.05)


def status_of_main() -> int:
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as ended:
            main()
    finally:
        signal.signal(signal.SIGTERM, handler)
    return int(ended.value.code or 0)


@pytest.mark.parametrize(
    ("network", "change", "off"),
    [
        ("rnet", swap_red_and_blue, {"rnet.score", "rnet.box"}),
        ("onet", move_a_landmark, {"onet.landmarks"}),
    ],
)
def test_verify_names_the_outputs_that_are_off(
    copy: Path,
    weights: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    network: str,
    change: Callable[[Any], None],
    off: set[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["facedeploy", "verify", str(copy), "--weights", str(weights)])
    statuses = [status_of_main()]
    tamper(copy, network, change)
    statuses.append(status_of_main())
    assert statuses == [0, 1]
    printed = capsys.readouterr()
    assert printed.out.count("verified") == 1
    lines = printed.err.splitlines()
    assert all(line.startswith("facedeploy: ") for line in lines)
    assert {line.split()[1] for line in lines} == off


CONTRADICTIONS: dict[str, Edit] = {
    "one network missing": lambda d: d["networks"].pop(),
    "no networks": lambda d: d["networks"].clear(),
    "one network twice": lambda d: d["networks"].append(d["networks"][0]),
    "network renamed": lambda d: d["networks"][1]["spec"].update(name="snet"),
    "role renamed": lambda d: d["networks"][0]["files"].update(graph=d["networks"][0]["files"].pop("onnx")),
    "no files": lambda d: d["networks"][0]["files"].clear(),
    "file of another network": lambda d: d["networks"][0].update(files=d["networks"][1]["files"]),
    "no axes": lambda d: d["networks"][0]["spec"]["axes"].clear(),
    "input renamed": lambda d: d["networks"][1]["spec"]["inputs"][0].update(name="picture"),
    "unknown dtype": lambda d: d["networks"][1]["spec"]["inputs"][0].update(dtype="float99"),
    "output missing": lambda d: d["networks"][2]["spec"]["outputs"].pop(),
    "output renamed": lambda d: d["networks"][2]["spec"]["outputs"][0].update(name="confidence"),
    "no preprocess": lambda d: d["pipeline"]["config"].pop("preprocess"),
    "null preprocess": lambda d: d["pipeline"]["config"].update(preprocess=None),
    "option of another type": lambda d: d["pipeline"]["config"].update(min_face="large"),
    "unknown option": lambda d: d["pipeline"]["config"].update(surprise=1),
    "unknown family": lambda d: d["pipeline"].update(family="retina"),
    "unknown model": lambda d: d.update(model="retina"),
    "target openvino": lambda d: d["target"].update(backend="openvino"),
    "target ncnn": lambda d: d["target"].update(backend="ncnn"),
    "target torch": lambda d: d["target"].update(backend="torch"),
    "source of another network": lambda d: d["source"][0].update(part="snet"),
    "no source": lambda d: d["source"].clear(),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_manifest_that_contradicts_itself(copy: Path, weights: Path, name: str) -> None:
    """Well-formed and wrong: verify says so, or has checked every output all the same."""
    edit(copy, CONTRADICTIONS[name])
    try:
        result = verify(copy, weights)
    except FacedeployError as error:
        one_sentence(str(error))
    else:
        assert result.problems == ()
        assert {f"{row.network}.{row.output}" for row in result.outputs} == {
            *("pnet.score", "pnet.box", "rnet.score", "rnet.box"),
            *("onet.score", "onet.box", "onet.landmarks"),
        }
