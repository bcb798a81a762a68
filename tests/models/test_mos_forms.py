"""MOS in the forms beside the deployed one of a fixed size: the published graph as it is, and networks of any size."""

from __future__ import annotations

from pathlib import Path

import pytest

from facedeploy.core.errors import InputError
from facedeploy.core.network_spec import Size
from facedeploy.export.exporter import export
from tests.artifact.test_artifact import one_sentence, tree
from tests.conftest import SMALL, GetMos, GetWeights
from tests.models.test_mos_artifacts import FLOAT32, FULL, MODELS, Form, Reference, distances, inputs


@pytest.fixture(scope="module")
def reference(mos_weights: GetWeights) -> Reference:
    return Reference(mos_weights)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "size"),
    [("mos-m-published", SMALL), ("mos-s-published", SMALL), ("mos-m-published", FULL)],
    ids=lambda v: v if isinstance(v, str) else f"{v[0]}x{v[1]}",
)
@pytest.mark.parametrize(("target", "form"), FLOAT32, ids=lambda v: str(v or "default"))
def test_published_graph_survives_as_it_is(
    model: str, target: str, form: Form, size: Size, mos_artifact: GetMos, reference: Reference
) -> None:
    off = distances(mos_artifact(model, target, size, form), reference, inputs(size))
    assert {k.split(".")[1] for k in off} == {"loc", "conf", "landm", "yaw", "pitch", "roll"}
    assert max(off.values()) <= 1e-3, off


@pytest.mark.slow
@pytest.mark.parametrize("target", ["onnx-fp32", "openvino-fp32"])
@pytest.mark.parametrize("model", MODELS)
def test_one_network_takes_pictures_of_any_size(
    model: str, target: str, mos_artifact: GetMos, reference: Reference
) -> None:
    artifact = mos_artifact(model, target, "any")
    for size in ((97, 131), (32, 32), (200, 64), SMALL):
        assert max(distances(artifact, reference, {str(size): inputs(size)["drawn"]}).values()) <= 1e-3


@pytest.mark.parametrize("target", ["ncnn-fp32", "ncnn-fp16", "trt-fp32", "trt-fp16"])
def test_backend_that_compiles_for_one_size_refuses_any(target: str, mos_weights: GetWeights, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{target} compiles mos-m for one size: give --input-size") as refused:
        export("mos-m", target, mos_weights("mos-m"), tmp_path / "out", input_size="any")
    one_sentence(str(refused.value))
    assert tree(tmp_path) == set()
