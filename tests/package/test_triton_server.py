"""A real Triton Inference Server opens the repository of `facedeploy package --triton` and gives faces.

The server is the one in the wheel of pytriton, on CPUs: its core, HTTP, and the Python backend. Its Python backend is
older than NumPy 2, so it gets an environment of its own.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import facedeploy
from facedeploy.package.triton.repository import package_triton
from tests.support import store
from tests.support.exported import tiny

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PHOTO = ROOT / "examples" / "astronaut.jpg"
SERVER = "nvidia-pytriton==0.7.0"
BESIDE = ("numpy<2", "opencv-python-headless>=4.8,<4.12", "onnxruntime>=1.20", "rich", "typer", "tqdm", "tomli")
STAND_IN = Path(__file__).with_name("triton_onnxruntime.py")
_TYPES = {"uint8": "UINT8", "float32": "FP32"}
PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"


def installed() -> Path:
    """The server in `server/`, and an environment for its Python models in `env/`."""

    def make(folder: Path) -> None:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), SERVER]
        subprocess.run(pip, check=True, capture_output=True)
        (wheel,) = folder.glob("*.whl")
        with zipfile.ZipFile(wheel) as file:
            file.extractall(folder / "server")
        wheel.unlink()
        home = folder / "server" / "pytriton" / "tritonserver"
        stub = home / "python_backend_stubs" / PYTHON / "triton_python_backend_stub"
        shutil.copy(stub, home / "backends" / "python")
        (home / "backends" / "onnxruntime").mkdir()
        shutil.copy(STAND_IN, home / "backends" / "onnxruntime" / "model.py")
        for program in (home / "bin" / "tritonserver", home / "backends" / "python" / stub.name):
            program.chmod(0o755)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "env")], check=True)
        target = folder / "env" / "lib" / f"python{PYTHON}" / "site-packages"
        subprocess.run(
            [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(target), *BESIDE],
            check=True,
            capture_output=True,
        )
        (target / "tree.pth").write_text(f"{ROOT}\n", encoding="utf-8")  # This tree of facedeploy.

    try:
        return store.made_once("triton", [SERVER, BESIDE, sys.version, str(ROOT), STAND_IN], make)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"the server cannot be had here: {error}")


class Server:
    """A server of a model repository; its models are asked by HTTP."""

    def __init__(self, repository: Path, work: Path) -> None:
        home = installed()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        triton = home / "server" / "pytriton" / "tritonserver"
        libraries = [str(sysconfig.get_config_var("LIBDIR")), os.environ.get("LD_LIBRARY_PATH", "")]
        environment = {
            **os.environ,
            # The models run in the environment of the `python3` that is first.
            "PATH": os.pathsep.join([str(home / "env" / "bin"), os.environ["PATH"]]),
            "LD_LIBRARY_PATH": os.pathsep.join(p for p in libraries if p),
        }
        environment.pop("PYTHONPATH", None)
        options = {
            "model-repository": repository,
            "backend-directory": triton / "backends",
            "http-address": "127.0.0.1",
            "http-port": self.port,
            "allow-grpc": "false",
            "allow-metrics": "false",
        }
        self.log = work / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [str(triton / "bin" / "tritonserver"), *(f"--{name}={value}" for name, value in options.items())],
                env=environment,
                stdout=log,
                stderr=log,
            )

    def wait(self) -> None:
        """Until all models are ready."""
        for _ in range(600):
            if self.process.poll() is not None:
                break
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/v2/health/ready", timeout=5):
                    return
            except OSError:
                time.sleep(0.2)
        pytest.fail(self.log.read_text(encoding="utf-8", errors="replace")[-4000:])

    def ask(self, model: str, inputs: Mapping[str, np.ndarray[Any, Any] | bytes]) -> dict[str, Any] | str:
        """The outputs of a model, or the error that it answers with."""
        tensors, blobs = [], []
        for name, value in inputs.items():
            data = len(value).to_bytes(4, "little") + value if isinstance(value, bytes) else value.tobytes()
            shape = [1] if isinstance(value, bytes) else list(value.shape)
            kind = "BYTES" if isinstance(value, bytes) else _TYPES[value.dtype.name]
            size = {"binary_data_size": len(data)}
            tensors.append({"name": name, "shape": shape, "datatype": kind, "parameters": size})
            blobs.append(data)
        head = json.dumps({"inputs": tensors, "parameters": {"binary_data_output": True}}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/v2/models/{model}/infer",
            data=head + b"".join(blobs),
            headers={"Inference-Header-Content-Length": str(len(head))},
        )
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                body, length = answer.read(), int(answer.headers["Inference-Header-Content-Length"])
        except urllib.error.HTTPError as error:
            assert error.code == 400
            return str(json.loads(error.read())["error"])
        outputs, at = {}, length
        for output in json.loads(body[:length])["outputs"]:
            data = body[at : (at := at + output["parameters"]["binary_data_size"])]
            text = output["datatype"] == "BYTES"
            outputs[output["name"]] = data[4:] if text else np.frombuffer(data, np.float32).reshape(output["shape"])
        return outputs


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if sys.platform != "linux" or platform.machine() != "x86_64":
        pytest.skip("the wheel of the server is for Linux on x86-64")
    work = tmp_path_factory.mktemp("triton")
    started = Server(package_triton(tiny("onnx-fp32", (96, 128)).path, work / "models"), work)
    try:
        started.wait()
        yield started
    finally:
        started.process.terminate()
        started.process.wait(60)


def picture() -> np.ndarray[Any, Any]:
    image = cv2.imread(str(PHOTO))
    assert image is not None
    return image


def test_a_picture_goes_in_and_faces_come_out(server: Server) -> None:
    with facedeploy.load(tiny("onnx-fp32", (96, 128))) as pipeline:
        (face,) = pipeline.detect(picture())
    asked: list[Mapping[str, Any]] = [{"picture": picture()}, {"encoded": PHOTO.read_bytes()}]
    for inputs in asked:
        answer = server.ask("mos-tiny", inputs)
        assert isinstance(answer, dict)
        # Another NumPy and OpenCV than here.
        np.testing.assert_allclose(answer["boxes"], [face.box], atol=0.01)
        np.testing.assert_allclose(answer["scores"], [face.score], atol=1e-3)
        np.testing.assert_allclose(answer["landmarks"], np.array([face.landmarks], float), atol=0.01)
        np.testing.assert_allclose(answer["pose"], np.array([[face.yaw, face.pitch, face.roll]], float), atol=0.01)
        assert len(json.loads(answer["faces"])) == 1


def test_no_face_is_an_answer(server: Server) -> None:
    answer = server.ask("mos-tiny", {"picture": np.zeros((40, 50, 3), np.uint8)})
    assert isinstance(answer, dict)
    shapes = {name: value.shape for name, value in answer.items() if name != "faces"}
    assert shapes == {"boxes": (0, 4), "scores": (0,), "landmarks": (0, 0, 2), "pose": (0, 3)}


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "give either picture"),
        ({"encoded": b"not a picture"}, "no picture which OpenCV reads"),
        ({"picture": np.zeros((9, 9, 1), np.uint8)}, "Expected [-1,-1,3], got [9,9,1]"),
    ],
    ids=["nothing", "no picture", "grey"],
)
def test_a_wrong_request_is_answered_in_a_sentence(inputs: Mapping[str, Any], message: str, server: Server) -> None:
    assert message in str(server.ask("mos-tiny", inputs))
    assert isinstance(server.ask("mos-tiny", {"picture": picture()}), dict)


def test_networks_have_the_shapes_of_their_configuration(server: Server) -> None:
    """The server compares each request and each answer with config.pbtxt."""
    detector = server.ask("mos-tiny-detector", {"image": np.zeros((1, 3, 96, 128), np.float32)})
    assert isinstance(detector, dict)
    assert detector["boxes"].shape == (1, 252, 4)
    assert "got [1,3,64,128]" in str(server.ask("mos-tiny-detector", {"image": np.zeros((1, 3, 64, 128), np.float32)}))
    pose = server.ask("mos-tiny-pose", {"patches": np.zeros((7, 48, 3, 3), np.float32)})
    assert isinstance(pose, dict)
    assert pose["angles"].shape == (7, 3, 1)
    assert "must be <= 64" in str(server.ask("mos-tiny-pose", {"patches": np.zeros((65, 48, 3, 3), np.float32)}))
