"""The folder that Triton serves: each network as a model of its own, and the whole pipeline as another."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from facedeploy.artifact.folder import Artifact, staged
from facedeploy.artifact.manifest import NetworkEntry
from facedeploy.core.errors import InputError
from facedeploy.core.terms import TERMS_FILE
from facedeploy.models.terms import terms_file
from facedeploy.package.triton.config import ANY, Config, Kind, Tensor, shapes
from facedeploy.package.triton.readme import readme
from facedeploy.pipelines import decodes
from facedeploy.pipelines.load import check_manifest
from facedeploy.runtimes import Substitute

PIPELINE = Path(__file__).parent / "served" / "model.py"  # Not a module here: the server runs it.
_VERSION = "1"
# An engine of TensorRT for RTX, which is another library than the TensorRT that Triton has.
_RTX = b"vtrt"
_INPUTS = (
    Tensor("picture", "uint8", (ANY, ANY, 3), optional=True),
    Tensor("encoded", "bytes", (1,), optional=True),
)
_OUTPUTS = (
    Tensor("boxes", "float32", (ANY, 4)),
    Tensor("scores", "float32", (ANY,)),
    Tensor("landmarks", "float32", (ANY, ANY, 2)),
    Tensor("pose", "float32", (ANY, 3)),
    Tensor("faces", "bytes", (1,)),
)


@dataclass(frozen=True)
class Served:
    """A network as Triton serves it.

    Attributes:
        config: Its configuration.
        files: Name in the folder of the version -> the artifact's file.
        extra: What facedeploy needs installed to run it in the pipeline.
    """

    config: Config
    files: dict[str, Path]
    extra: str


def package_triton(artifact: str | os.PathLike[str], output: str | os.PathLike[str]) -> Path:
    """Write a model repository for Triton Inference Server.

    It holds a model for each network, for Triton's own backends; one for the pipeline, for the Python backend, with the
    artifact in it; a README.md, and the terms of the weights. A network without meaning has no pipeline.

    Args:
        artifact: The folder that `export` or `chain` wrote, for ONNX Runtime, OpenVINO or TensorRT. Without an engine
            that Triton can open, the ONNX file of a `trt` artifact is served.
        output: Folder to write, which must not exist or be empty.

    Raises:
        ArtifactError: not an artifact, or a damaged one.
        InputError: one for ncnn or PyTorch; a tensor that Triton does not have; two models of one name; or `output`
            exists and is not an empty folder.
    """
    opened = Artifact.open(artifact)
    check_manifest(opened)
    whole = _name(opened.manifest.model)
    networks = [_served(whole, name, part, network) for name, part, network in opened.compiled()]
    pipeline = _pipeline(whole, _runtime(opened, networks)) if decodes(opened.manifest.pipeline) else None
    configs = [n.config for n in networks] + ([pipeline] if pipeline else [])
    _check_names(configs)
    with staged(output) as folder:
        for network in networks:
            for name, file in network.files.items():
                shutil.copy(file, _version(folder, network.config) / name)
        if pipeline is not None:
            place = _version(folder, pipeline)
            shutil.copy(PIPELINE, place)
            shutil.copytree(opened.path, place / "artifact")
        terms = terms_file(opened)
        (folder / TERMS_FILE).write_text(terms, encoding="utf-8")
        for config in configs:
            (folder / config.name / "config.pbtxt").write_text(config.text(), encoding="utf-8")
            (folder / config.name / TERMS_FILE).write_text(terms, encoding="utf-8")  # A model may be copied alone.
        text = readme(opened.manifest, pipeline, [n.config for n in networks], sorted({n.extra for n in networks}))
        (folder / "README.md").write_text(text, encoding="utf-8")
    return Path(output)


def _pipeline(name: str, runtime: Substitute | None) -> Config:
    parameters = {"threads": "0", "options": "{}", "runtime": runtime or ""}
    return Config(name, "python", _INPUTS, _OUTPUTS, "KIND_CPU", parameters=parameters)


def _runtime(artifact: Artifact, networks: Sequence[Served]) -> Substitute | None:
    """What the pipeline runs a `trt` artifact with where its engines are none for Triton.

    Raises:
        InputError: of a chain, a part that is no detector has none, and the detector no ONNX file.
    """
    parts = [part for _, part, _ in artifact.compiled()]
    own = [n.config.backend for n, part in zip(networks, parts, strict=True) if part.manifest.target.backend == "trt"]
    if "onnxruntime" not in own:
        return None
    if not all("onnx" in network.files for network in parts[0].manifest.networks):
        msg = f"{artifact.path} has engines that are still to be built: run `facedeploy build` on it first"
        raise InputError(msg)
    return "onnxruntime"


def _served(whole: str, name: str, part: Artifact, network: NetworkEntry) -> Served:
    def file(role: str) -> Path:
        return part.file(network.spec.name, role)

    def served(backend: str, kind: Kind, files: dict[str, Path], extra: str) -> Served:
        batch, inputs, outputs = shapes(network.spec, batched=backend != "openvino")
        config = Config(f"{whole}-{_name(name)}", backend, inputs, outputs, kind, next(iter(files)), batch)
        return Served(config, files, extra)

    target = part.manifest.target
    if target.backend == "openvino":
        # Its backend runs on CPUs only, and its batches are known to crash.
        return served("openvino", "KIND_CPU", {"model.xml": file("xml"), "model.bin": file("bin")}, "openvino")
    if target.backend == "trt" and "engine" in network.files and not _starts(file("engine"), _RTX):
        return served("tensorrt", "KIND_GPU", {"model.plan": file("engine")}, "tensorrt")
    if target.backend in ("onnx", "trt"):
        return served("onnxruntime", "KIND_AUTO", {"model.onnx": file("onnx")}, "onnx")
    msg = f"{part.path} is for {target}, which Triton has no backend for: export for onnx-fp32, openvino or trt"
    raise InputError(msg)


def _check_names(configs: Iterable[Config]) -> None:
    names = [c.name for c in configs]
    if len(set(names)) < len(names):
        msg = f"two models would be called the same in Triton ({', '.join(names)}): give the parts other names"
        raise InputError(msg)


def _version(folder: Path, config: Config) -> Path:
    place = folder / config.name / _VERSION
    place.mkdir(parents=True, exist_ok=True)
    return place


def _name(text: str) -> str:
    """A name for a folder, an address and a label of metrics at once."""
    return re.sub(r"[^A-Za-z0-9_]+", "-", text).strip("-") or "model"


def _starts(path: Path, head: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(head)) == head
