"""What `manifest.json` says: the networks, their files, the pipeline, where they came from and how close they are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from facedeploy.artifact.loss import Loss
from facedeploy.core.network_spec import NetworkSpec
from facedeploy.core.serialization import from_plain
from facedeploy.core.target import Target
from facedeploy.core.terms import Terms

FORMAT = "facedeploy-artifact"


VERSION = 1


# Where the networks come from: a published model, a user's ONNX file, or a callable of a user's module.
Origin = Literal["registry", "onnx", "factory"]


@dataclass(frozen=True)
class FileEntry:
    """A file of the artifact.

    Attributes:
        path: Relative to the folder, with forward slashes.
        sha256: Hexadecimal digest of its content.
        size: Bytes.
    """

    path: str
    sha256: str
    size: int


@dataclass(frozen=True)
class NetworkEntry:
    """One compiled network.

    Attributes:
        spec: Name, inputs and outputs.
        files: Role (onnx, engine, xml, bin, param) -> file. For PyTorch the roles are the parts of the checkpoint.
        engine: For TensorRT: whether the engine is here ("ready") or must be built on the device ("pending").
        lowerings: Operator -> the form that was chosen for this backend.
        float32: How the names of the weights begin that stay in float32 in a reduced precision; "" is all of them.
        int8: Names of the weights of the layers that are int8.
        options: What an app that loads the files itself must set in the backend (ncnn's Option).
    """

    spec: NetworkSpec
    files: dict[str, FileEntry]
    engine: Literal["ready", "pending"] | None = None
    lowerings: dict[str, str] = field(default_factory=dict)
    float32: tuple[str, ...] = ()
    int8: tuple[str, ...] = ()
    options: dict[str, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class PipelineEntry:
    """Pre- and post-processing as data: a family of pipelines and its configuration.

    Attributes:
        family: Which pipeline, such as "mtcnn".
        config: The fields of its configuration.
    """

    family: str
    config: dict[str, Any]


@dataclass(frozen=True)
class SourceFile:
    """A file that the networks came from.

    Attributes:
        part: Which part of the checkpoint it holds.
        name: Its name, without a folder.
        sha256: Hexadecimal digest of its content.
    """

    part: str
    name: str
    sha256: str


@dataclass(frozen=True)
class Parity:
    """How far one output of a compiled network is from PyTorch's, the worst of several inputs.

    Attributes:
        network: Name of the network.
        output: Name of the output.
        runtime: What ran the compiled network.
        max_abs: Largest absolute difference.
        relative_l2: L2 of the difference, divided by L2 of the reference.
        cosine: Cosine similarity, 1 where they agree.
        overlap: For an output of boxes: the smallest IoU with PyTorch's box, over boxes with a score above 0.3. None
            for others.
    """

    network: str
    output: str
    runtime: str
    max_abs: float
    relative_l2: float
    cosine: float
    overlap: float | None = None


@dataclass(frozen=True)
class Calibration:
    """Where the ranges of an int8 artifact come from.

    Attributes:
        method: How clips were chosen.
        pictures: How many pictures the ranges are from.
        digest: SHA-256 of the pictures.
        loss: What the whole model loses on held-back pictures; None where that was not measured.
        faster: How many times as fast as the same backend's fp32 the networks ran, on all cores of the machine that
            exported them. None where that was not measured.
        machine: Which processor that was, and how many cores it could use.
    """

    method: str
    pictures: int
    digest: str
    loss: Loss | None = None
    faster: float | None = None
    machine: str | None = None


@dataclass(frozen=True)
class Manifest:
    """What `manifest.json` says.

    Attributes:
        model: Id of the model. For any origin but "registry" it is only a name, and nothing is looked up or imported by
            it.
        target: What the artifact was compiled for.
        networks: The compiled networks.
        pipeline: Pre- and post-processing.
        source: The files that the networks came from.
        tools: Package -> version, of what exported.
        parity: How far each output was from PyTorch's at export.
        calibration: Of an int8 artifact: where its ranges come from.
        origin: Where the networks come from.
        settings: What the source says of itself. Of a user's network: what it wants and what its outputs mean, as its
            TOML file says it. Under `source`, of any: the terms of the weights.
        recognised: Why it was taken for the family of its settings; empty where the user said what it is.
        notes: What was changed of a user's own file before it was compiled, a line each.
        options: What the user set on purpose at export, over what the source says: option of the pipeline -> value.
        digest: SHA-256 of all the rest (`digest.digest_of`), set when it is written; empty in one of 0.1.0.
        format: Always "facedeploy-artifact".
        version: Of the format.
    """

    model: str
    target: Target
    networks: tuple[NetworkEntry, ...]
    pipeline: PipelineEntry
    source: tuple[SourceFile, ...]
    tools: dict[str, str]
    parity: tuple[Parity, ...]
    calibration: Calibration | None = None
    origin: Origin = "registry"
    settings: dict[str, Any] = field(default_factory=dict)
    recognised: str = ""
    notes: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    digest: str = ""
    format: str = FORMAT
    version: int = VERSION

    @property
    def terms(self) -> Terms | None:
        """What the weights may be used for; None where nobody said, as in an artifact of 0.1.0.

        Raises:
            InputError: what stands there is none.
        """
        said = self.settings.get("source")
        return None if said is None else from_plain(Terms, said, "settings.source")

    def network(self, name: str) -> NetworkEntry:
        return next(n for n in self.networks if n.spec.name == name)
