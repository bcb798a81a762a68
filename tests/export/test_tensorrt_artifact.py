"""What `--target trt-*` writes on a machine without a GPU."""

from __future__ import annotations

import sys
from pathlib import Path

import onnx
import pytest

from facedeploy.artifact.folder import Artifact
from facedeploy.export.exporter import export
from facedeploy.export.tensorrt import describe_network
from facedeploy.pipelines.load import load
from tests.conftest import GetArtifact

trt = pytest.importorskip("tensorrt_rtx")

NETWORKS = ("pnet", "rnet", "onet")


def convolution_types(graph: Path) -> list[str]:
    """Types in which TensorRT computes the convolutions and matrix products that it parsed."""
    layers = describe_network(trt, graph).layers
    return [v.outputs[0].dtype for v in layers if v.type in ("CONVOLUTION", "MATRIX_MULTIPLY")]


@pytest.mark.parametrize("target", ["trt-fp32", "trt-fp16"])
def test_three_engines_are_built_beside_their_graphs(target: str, artifact: GetArtifact) -> None:
    made = artifact(target)
    for name in NETWORKS:
        assert made.manifest.network(name).engine == "ready"
        assert made.file(name, "engine").stat().st_size > 100_000
        described = describe_network(trt, made.file(name, "onnx"))
        spec = made.manifest.network(name).spec
        assert [t.name for t in described.inputs] == [t.name for t in spec.inputs]
        assert [t.name for t in described.outputs] == [t.name for t in spec.outputs]
        assert {t.dtype for t in (*described.inputs, *described.outputs)} == {"float32"}


def test_half_precision_is_where_the_model_allows_it(artifact: GetArtifact) -> None:
    made = artifact("trt-fp16")
    assert set(convolution_types(made.file("pnet", "onnx"))) == {"float32"}
    assert set(convolution_types(made.file("rnet", "onnx"))) == {"float32"}
    first, *rest = convolution_types(made.file("onet", "onnx"))
    assert first == "float32"
    assert len(rest) >= 6
    assert set(rest) == {"float16"}
    single = convolution_types(artifact("trt-fp32").file("onet", "onnx"))
    assert set(single) == {"float32"}


@pytest.mark.slow
def test_without_tensorrt_the_artifact_is_complete_but_for_the_engine(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, module, None)
    made = export("mtcnn", "trt-fp16", weights, tmp_path / "made")
    for network in Artifact.open(made.path).manifest.networks:
        assert network.engine == "pending"
        assert set(network.files) == {"onnx"}
    assert {row.runtime for row in made.manifest.parity} == {"onnxruntime"}
    with load(made, threads=1, runtime="onnxruntime") as pipeline:
        assert set(pipeline.runtimes) == set(NETWORKS)


def test_graphs_carry_no_trace_of_the_machine_that_made_them(artifact: GetArtifact) -> None:
    for name in NETWORKS:
        path = artifact("trt-fp16").file(name, "onnx")
        graph = onnx.load(path).graph
        assert not any(n.metadata_props or n.doc_string for n in graph.node)
        assert b"site-packages" not in path.read_bytes()
