"""`facedeploy package --triton`: the folder's layout, what its files say to Triton, and the faces of its pipeline."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import facedeploy
from facedeploy.artifact.folder import Artifact, describe_file, write_manifest
from facedeploy.core.errors import ArtifactError, InputError
from facedeploy.core.face import Face
from facedeploy.core.network_spec import Axis, NetworkSpec, TensorSpec
from facedeploy.core.target import Target
from facedeploy.core.terms import TERMS_FILE
from facedeploy.models.terms import terms_file
from facedeploy.package.triton.config import Config, Tensor, shapes
from facedeploy.package.triton.repository import package_triton
from facedeploy.pipelines.make_chain import make_chain
from tests.cli import test_cli
from tests.cli.test_cli import Run
from tests.conftest import GetArtifact
from tests.support.crop_networks import crop_network
from tests.support.exported import tiny as made_tiny
from tests.support.triton_schema import parse

run = test_cli.run

PHOTO = Path(__file__).parents[2] / "examples" / "astronaut.jpg"
PHOTO_SIZE = (96, 128)
FP32, UINT8, STRING = 11, 2, 13  # In model_config.proto.


@pytest.fixture(scope="module")
def tiny() -> Artifact:
    return made_tiny("onnx-fp32", PHOTO_SIZE)


@pytest.fixture(scope="module")
def repository(tiny: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return package_triton(tiny.path, tmp_path_factory.mktemp("triton") / "models")


def config(repository: Path, model: str) -> Any:
    return parse((repository / model / "config.pbtxt").read_text(encoding="utf-8"))


def dims(tensors: Sequence[Any]) -> dict[str, list[int]]:
    return {t.name: list(t.dims) for t in tensors}


def files(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def test_the_folder_is_a_model_repository(repository: Path, tiny: Artifact) -> None:
    copied = {f"mos-tiny/1/artifact/{name}" for name in files(tiny.path)}
    models = ("mos-tiny", "mos-tiny-detector", "mos-tiny-pose")
    terms = {TERMS_FILE, *(f"{model}/{TERMS_FILE}" for model in models)}
    assert files(repository) == copied | terms | {
        "README.md",
        "mos-tiny/config.pbtxt",
        "mos-tiny/1/model.py",
        "mos-tiny-detector/config.pbtxt",
        "mos-tiny-detector/1/model.onnx",
        "mos-tiny-pose/config.pbtxt",
        "mos-tiny-pose/1/model.onnx",
    }
    for network in ("detector", "pose"):
        served = repository / f"mos-tiny-{network}" / "1" / "model.onnx"
        assert served.read_bytes() == tiny.file(network, "onnx").read_bytes()
    assert {(repository / name).read_text(encoding="utf-8") for name in terms} == {terms_file(tiny)}
    for model in models:
        said = config(repository, model)
        assert said.name == model
        assert f"`{model}`" in (repository / "README.md").read_text(encoding="utf-8")
        assert (repository / model / "1" / (said.default_model_filename or "model.py")).is_file()


def test_a_network_is_described_as_its_file_is(repository: Path) -> None:
    """The oracle is what ONNX Runtime says of the file."""
    onnxruntime = pytest.importorskip("onnxruntime")
    for model in ("mos-tiny-detector", "mos-tiny-pose"):
        said = config(repository, model)
        session = onnxruntime.InferenceSession(str(repository / model / "1" / "model.onnx"))
        for ours, theirs in ((said.input, session.get_inputs()), (said.output, session.get_outputs())):
            assert {t.data_type for t in ours} == {FP32}
            batch = 1 if said.max_batch_size else 0
            shown = {t.name: [d if isinstance(d, int) else -1 for d in t.shape][batch:] for t in theirs}
            assert dims(ours) == shown
        assert (said.backend, said.max_batch_size) == ("onnxruntime", {"mos-tiny-detector": 0}.get(model, 64))
        assert [(g.count, g.kind) for g in said.instance_group] == [(1, 0)]


def test_the_pipeline_takes_pictures_and_gives_faces(repository: Path) -> None:
    said = config(repository, "mos-tiny")
    assert (said.backend, said.max_batch_size) == ("python", 0)
    assert dims(said.input) == {"picture": [-1, -1, 3], "encoded": [1]}
    assert [(t.data_type, t.optional) for t in said.input] == [(UINT8, True), (STRING, True)]
    assert {t.name: t.data_type for t in said.output} == {
        **dict.fromkeys(("boxes", "scores", "landmarks", "pose"), FP32),
        "faces": STRING,
    }
    assert [g.kind for g in said.instance_group] == [2]
    assert {key: value.string_value for key, value in said.parameters.items()} == {
        "threads": "0",
        "options": "{}",
        "runtime": "",
    }


@pytest.mark.parametrize(
    "text",
    ["name: 3", 'nmae: "a"', "input { data_type: TYPE_FLOAT32 }", 'instance_group { kind: "KIND_AUTO" }', "input ["],
)
def test_the_schema_refuses_what_triton_refuses(text: str) -> None:
    text_format = pytest.importorskip("google.protobuf.text_format")
    with pytest.raises(text_format.ParseError):
        parse(text)


def test_names_go_into_the_text_as_they_are() -> None:
    name = 'a "b"\\ \n\x01é/網:0'
    one = Tensor(name, "float32", (1,))
    assert parse(Config(name, "onnxruntime", (one,), (one,), "KIND_CPU").text()).input[0].name == name


FIXED = TensorSpec("a", (1, 3, 8, 8))
MANY = TensorSpec("a", ("batch", 3, 8, 8))


@pytest.mark.parametrize(
    ("inputs", "outputs", "expected"),
    [
        ((FIXED,), (TensorSpec("b", (1, 5)),), (0, (1, 3, 8, 8), (1, 5))),
        ((MANY,), (TensorSpec("b", ("batch", 5)),), (6, (3, 8, 8), (5,))),
        # Not all begin with the batch, or nothing would be left of one: shapes are whole.
        ((MANY,), (TensorSpec("b", (5, "batch")),), (0, (-1, 3, 8, 8), (5, -1))),
        ((MANY,), (TensorSpec("b", ("batch",)),), (0, (-1, 3, 8, 8), (-1,))),
    ],
)
def test_shapes_and_batches(
    inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...], expected: tuple[int, tuple[int, ...], object]
) -> None:
    spec = NetworkSpec("n", inputs, outputs, (Axis("batch", 1, 4, 6),))
    batch, (first,), (last,) = shapes(spec, batched=True)
    assert (batch, first.dims, last.dims) == expected


def test_a_number_without_a_shape_is_refused() -> None:
    with pytest.raises(InputError, match="b has no shape, which Triton does not serve"):
        shapes(NetworkSpec("n", (FIXED,), (TensorSpec("b", ()),)), batched=True)


# What the pipeline needs of the module that Triton gives it.


class StandInError:
    INVALID_ARG, INTERNAL = 3, 1

    def __init__(self, message: str, code: int) -> None:
        self.message, self.code = message, code


class StandInTensor:
    def __init__(self, name: str, values: np.ndarray[Any, Any]) -> None:
        self.name, self.values = name, values

    def as_numpy(self) -> np.ndarray[Any, Any]:
        return self.values


@dataclass
class StandInResponse:
    output_tensors: Sequence[StandInTensor]
    error: StandInError | None = None


Request = Mapping[str, StandInTensor]


class Model:
    """A repository's `model.py`, as Triton's Python backend runs it."""

    def __init__(self, repository: Path, model: str, monkeypatch: pytest.MonkeyPatch, **parameters: str) -> None:
        utils: Any = types.ModuleType("triton_python_backend_utils")
        utils.Tensor, utils.InferenceResponse, utils.TritonError = StandInTensor, StandInResponse, StandInError
        utils.get_input_tensor_by_name = lambda request, name: request.get(name)
        monkeypatch.setitem(sys.modules, "triton_python_backend_utils", utils)
        spec = importlib.util.spec_from_file_location("served", repository / model / "1" / "model.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        said = {key: value.string_value for key, value in config(repository, model).parameters.items()}
        plain = {key: {"string_value": value} for key, value in {**said, **parameters}.items()}
        self.module: Any = module
        self.model = self.module.TritonPythonModel()
        self.model.initialize({"model_config": json.dumps({"name": model, "parameters": plain})})
        self.outputs = config(repository, model).output

    def ask(self, *requests: Mapping[str, Any]) -> list[dict[str, Any] | StandInError]:
        """An answer for each: outputs as config.pbtxt has them, or an error."""
        given = [{n: StandInTensor(n, v) for n, v in request.items()} for request in requests]
        return [r.error or self._checked(r) for r in self.model.execute(given)]

    def _checked(self, response: StandInResponse) -> dict[str, Any]:
        answer = {t.name: t.values for t in response.output_tensors}
        for said in self.outputs:
            values = answer[said.name]
            assert values.dtype == (np.object_ if said.data_type == STRING else np.float32)
            assert all(want in (-1, have) for want, have in zip(said.dims, values.shape, strict=True))
        assert answer.keys() == {said.name for said in self.outputs}
        return answer


GetModel = Callable[..., Model]


@pytest.fixture
def open_model(monkeypatch: pytest.MonkeyPatch) -> GetModel:
    return lambda repository, model, **parameters: Model(repository, model, monkeypatch, **parameters)


def picture() -> np.ndarray[Any, Any]:
    image = cv2.imread(str(PHOTO))
    assert image is not None
    return image


def encoded(data: bytes) -> np.ndarray[Any, Any]:
    return np.array([data], np.object_)


def test_its_faces_are_those_of_detect(repository: Path, tiny: Artifact, open_model: GetModel) -> None:
    model = open_model(repository, "mos-tiny")
    with facedeploy.load(tiny) as pipeline:
        (face,) = pipeline.detect(picture())
    asked = model.ask({"picture": picture()}, {"encoded": encoded(PHOTO.read_bytes())})
    assert face.landmarks is not None
    for answer in asked:
        assert isinstance(answer, dict)
        np.testing.assert_allclose(answer["boxes"], [face.box], rtol=1e-6)
        np.testing.assert_allclose(answer["scores"], [face.score], rtol=1e-6)
        np.testing.assert_allclose(answer["landmarks"], [face.landmarks], rtol=1e-6)
        np.testing.assert_allclose(answer["pose"], np.array([[face.yaw, face.pitch, face.roll]], float), rtol=1e-6)
        assert json.loads(answer["faces"][0]) == json.loads(json.dumps([face.to_dict()]))
    runtimes = model.model.pipeline.runtimes.values()
    assert not any(r.closed for r in runtimes)
    model.model.finalize()
    assert all(r.closed for r in runtimes)


def test_a_picture_without_faces(repository: Path, open_model: GetModel) -> None:
    (answer,) = open_model(repository, "mos-tiny").ask({"picture": np.zeros((40, 50, 3), np.uint8)})
    assert isinstance(answer, dict)
    assert {n: v.shape for n, v in answer.items()} == {
        "boxes": (0, 4),
        "scores": (0,),
        "landmarks": (0, 0, 2),
        "pose": (0, 3),
        "faces": (1,),
    }
    assert answer["faces"][0] == b"[]"


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({}, "give either picture"),
        ({"picture": np.zeros((9, 9, 3), np.uint8), "encoded": encoded(b"x")}, "give either picture"),
        ({"encoded": encoded(b"")}, "holds 0 bytes that are no picture"),
        ({"encoded": encoded(b"not a picture")}, "holds 13 bytes that are no picture"),
    ],
    ids=["nothing", "both", "empty", "no picture"],
)
def test_a_wrong_request_gets_a_sentence_and_the_others_their_faces(
    request_: Mapping[str, Any], message: str, repository: Path, open_model: GetModel
) -> None:
    wrong, right = open_model(repository, "mos-tiny").ask(request_, {"picture": picture()})
    assert isinstance(wrong, StandInError)
    assert wrong.code == StandInError.INVALID_ARG
    assert message in wrong.message
    assert isinstance(right, dict)
    assert len(right["boxes"]) == 1


def test_its_parameters_are_those_of_load(repository: Path, open_model: GetModel) -> None:
    model = open_model(repository, "mos-tiny", options='{"score_threshold": 0.999}', threads="1")
    (answer,) = model.ask({"picture": picture()})
    assert isinstance(answer, dict)
    assert len(answer["boxes"]) == 0
    assert {r.options.threads for r in model.model.pipeline.runtimes.values()} == {1}
    (answer,) = open_model(repository, "mos-tiny", options="", threads="", runtime="").ask({"picture": picture()})
    assert isinstance(answer, dict)
    assert len(answer["boxes"]) == 1


def test_what_a_model_does_not_say(repository: Path, open_model: GetModel) -> None:
    """Faces without points, and with one angle of three."""
    face = Face((1.0, 2.0, 3.0, 4.0), 0.5, None, yaw=7.0)
    answer = open_model(repository, "mos-tiny").module.arrays([face, face])
    assert answer["landmarks"].shape == (2, 0, 2)
    np.testing.assert_array_equal(answer["pose"], [[7, np.nan, np.nan]] * 2)


def test_networks_that_take_any_size_or_several_at_once(artifact: GetArtifact, tmp_path: Path) -> None:
    repository = package_triton(artifact("onnx-fp32").path, tmp_path / "models")
    said = config(repository, "mtcnn-pnet")
    assert (said.max_batch_size, dims(said.input)) == (0, {"image": [1, 3, -1, -1]})
    said = config(repository, "mtcnn-onet")
    assert (said.max_batch_size, dims(said.output)) == (64, {"score": [1], "box": [4], "landmarks": [10]})


def test_openvino_goes_to_its_own_backend(tmp_path: Path, open_model: GetModel) -> None:
    made = made_tiny("openvino-fp32", PHOTO_SIZE)
    repository = package_triton(made.path, tmp_path / "models")
    for network in ("detector", "pose"):
        said = config(repository, f"mos-tiny-{network}")
        assert (said.backend, said.default_model_filename, said.max_batch_size) == ("openvino", "model.xml", 0)
        assert [g.kind for g in said.instance_group] == [2]
        for role in ("xml", "bin"):
            served = repository / said.name / "1" / f"model.{role}"
            assert served.read_bytes() == made.file(network, role).read_bytes()
    assert list(config(repository, "mos-tiny-pose").input[0].dims) == [-1, 48, 3, 3]
    (answer,) = open_model(repository, "mos-tiny").ask({"picture": picture()})
    assert isinstance(answer, dict)
    assert len(answer["boxes"]) == 1
    # Triton gives the backend the names of config.pbtxt, so the file must have them.
    openvino = pytest.importorskip("openvino")
    read = openvino.Core().read_model(repository / "mos-tiny-detector" / "1" / "model.xml")
    assert {t.name for t in config(repository, "mos-tiny-detector").output} <= {
        n for o in read.outputs for n in o.names
    }


@pytest.mark.parametrize(
    ("engine", "backend", "file", "runtime"),
    [
        (b"ftrt, an engine of TensorRT", "tensorrt", "model.plan", ""),
        (b"vtrt, one of TensorRT for RTX", "onnxruntime", "model.onnx", "onnxruntime"),
        (None, "onnxruntime", "model.onnx", "onnxruntime"),
    ],
    ids=["TensorRT", "RTX", "pending"],
)
def test_what_triton_opens_of_a_tensorrt_artifact(
    engine: bytes | None, backend: str, file: str, runtime: str, tiny: Artifact, tmp_path: Path
) -> None:
    folder = tmp_path / "trt"
    shutil.copytree(tiny.path, folder)
    networks = []
    for network in tiny.manifest.networks:
        entry = replace(network, engine="pending" if engine is None else "ready")
        if engine is not None:
            (folder / f"{network.spec.name}.engine").write_bytes(engine)
            entry = replace(
                entry, files={**entry.files, "engine": describe_file(folder, f"{network.spec.name}.engine")}
            )
        networks.append(entry)
    write_manifest(folder, replace(tiny.manifest, target=Target.parse("trt-fp32"), networks=tuple(networks)))
    repository = package_triton(folder, tmp_path / "models")
    said = config(repository, "mos-tiny-detector")
    assert (said.backend, said.default_model_filename) == (backend, file)
    assert (repository / "mos-tiny-detector" / "1" / file).is_file()
    assert config(repository, "mos-tiny").parameters["runtime"].string_value == runtime


def test_a_chain_is_one_pipeline(tiny: Artifact, tmp_path: Path, open_model: GetModel) -> None:
    path = crop_network(tmp_path / "who.onnx", {"out": np.linspace(-1, 1, 16)})
    path.with_suffix(".toml").write_text("[meaning.embedding]\n")
    who = facedeploy.export(str(path), "onnx-fp32", output=tmp_path / "who")
    chain = make_chain(tiny.path, [who.path], tmp_path / "chain")
    repository = package_triton(chain.path, tmp_path / "models")
    whole = next(m for m in repository.iterdir() if (m / "1" / "model.py").is_file()).name
    assert {m.name for m in repository.iterdir() if m.is_dir()} == {
        whole,
        f"{whole}-detector-detector",
        f"{whole}-detector-pose",
        f"{whole}-who-network",
    }
    (answer,) = open_model(repository, whole).ask({"picture": picture()})
    assert isinstance(answer, dict)
    (face,) = json.loads(answer["faces"][0])
    assert len(face["embedding"]) == 16


def test_a_network_without_meaning_has_no_pipeline(tmp_path: Path) -> None:
    path = crop_network(tmp_path / "numbers.onnx", {"out": np.linspace(-1, 1, 16)})
    made = facedeploy.export(str(path), "onnx-fp32", output=tmp_path / "numbers")
    repository = package_triton(made.path, tmp_path / "models")
    (model,) = (p for p in repository.iterdir() if p.is_dir())
    assert config(repository, model.name).backend == "onnxruntime"


def test_what_triton_does_not_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is for ncnn-fp16, which Triton has no backend for: export for onnx-fp32"):
        package_triton(made_tiny("ncnn-fp16", PHOTO_SIZE).path, tmp_path / "models")
    assert not list(tmp_path.iterdir())


def test_nothing_is_written_over_or_from_half_an_artifact(tiny: Artifact, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "mine").touch()
    with pytest.raises(InputError, match="exists and is not an empty folder"):
        package_triton(tiny.path, tmp_path / "models")
    shutil.copytree(tiny.path, tmp_path / "broken")
    (tmp_path / "broken" / "pose.onnx").write_bytes(b"")
    with pytest.raises(ArtifactError):
        package_triton(tmp_path / "broken", tmp_path / "other")
    assert {p.name for p in tmp_path.iterdir()} == {"models", "broken"}


def test_the_command_prints_the_folder(tiny: Artifact, tmp_path: Path, run: Run) -> None:
    done = run("package", tiny.path, "--triton", tmp_path / "models")
    assert (done.status, done.out) == (0, f"{tmp_path / 'models'}\n")
    refused = run("package", tiny.path, "--triton", tmp_path / "more", "--embed")
    assert refused.status == 2
    assert "--embed and --strip are for apps" in refused.err
    assert "--triton DIR" in run("package", tiny.path).err
