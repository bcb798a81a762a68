"""The modules of MOS against recorded outputs of the published code, and what is deployed against the modules."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from facedeploy.core.errors import CheckpointError, InputError
from facedeploy.core.network_spec import Size
from facedeploy.models import model_size as statistics
from facedeploy.models import registry
from facedeploy.models.mos import SOURCES, DeformBlock, Mos, expected_angle, mos_m, mos_s, priors
from facedeploy.models.mos_networks import Detector, FoldedDetector, FoldedPose, Pose
from facedeploy.pipelines.mos import gather, prior_boxes
from tests.conftest import SMALL, GetWeights
from tests.support.fill import fill, noise

DATA = Path(__file__).parents[1] / "data"
GOLDEN: dict[str, Any] = json.loads((DATA / "golden_mos.json").read_text())
MODULES: dict[str, Callable[[], Mos]] = {"mos-m": mos_m, "mos-s": mos_s}
OUTPUTS = ("loc", "conf", "landm", "yaw", "pitch", "roll")
PARAMETERS = {"mos-m": 3_160_415, "mos-s": 2_148_419}
BUFFERS = {"mos-m": 35_409, "mos-s": 17_993}
# Multiply-accumulates of the published graph.
MACS: dict[str, dict[Size, int]] = {
    "mos-m": {(480, 640): 4_416_292_800, (640, 640): 5_888_390_400, (300, 300): 1_339_944_640},
    "mos-s": {(480, 640): 3_482_930_400, (640, 640): 4_643_907_200, (300, 300): 1_055_433_860},
}
COUNTS: dict[Size, int] = {
    (480, 640): 12_600,
    (640, 640): 16_800,
    (300, 300): 3_810,
    (481, 641): 13_096,
    (333, 500): 6_988,
    SMALL: 504,
}
ODD: Size = (97, 131)


@pytest.fixture(scope="module", params=MODULES)
def name(request: pytest.FixtureRequest) -> str:
    model: str = request.param
    return model


@pytest.fixture(scope="module")
def mos(name: str) -> Mos:
    """With the weights that the outputs are recorded for. Tests share it and do not change it."""
    return filled(name)


def filled(name: str) -> Mos:
    module = MODULES[name]()
    module.load_state_dict(fill(module.state_dict()))
    module.eval()
    return module


def image(size: Size = SMALL) -> Tensor:
    return torch.from_numpy(noise("input", (1, 3, *size))).float()


def outputs(mos: Mos) -> dict[str, Tensor]:
    """Everything that is recorded."""
    with torch.inference_mode():
        inner = dict(zip(("ssh1", "ssh2", "ssh3"), mos.features(image()), strict=True))
        return {**dict(zip(OUTPUTS, mos(image()), strict=True)), **inner, "fpn.0": mos.fpn(*mos.body(image()))[0]}


def matches(have: Tensor, want: dict[str, Any]) -> bool:
    """Whether a tensor is the recorded one. In float32 these networks are off by 1e-4 from themselves in float64."""
    flat = have.double().flatten().numpy()
    measured = [*flat[want["idx"]], flat.mean(), flat.std(), np.abs(flat).max()]
    recorded = [*want["val"], want["mean"], want["std"], want["absmax"]]
    near = np.allclose(measured, recorded, rtol=0, atol=3e-4 * want["absmax"])
    return list(have.shape) == want["shape"] and near


# --- the published graph ---


def test_keys_shapes_and_types_are_the_published_ones(name: str) -> None:
    lines = (DATA / f"keys_{name.replace('-', '_')}.tsv").read_text().splitlines()
    state = MODULES[name]().state_dict()
    have = [f"{k}\t{tuple(v.shape)}\t{str(v.dtype).removeprefix('torch.')}" for k, v in state.items()]
    assert sorted(have) == sorted(lines)
    assert len(lines) == {"mos-m": 717, "mos-s": 741}[name]


def test_outputs_and_what_is_inside_equal_the_published_code(name: str, mos: Mos) -> None:
    golden = GOLDEN[name.replace("-", "_")]
    have = outputs(mos)
    recorded = {k: v for k, v in golden.items() if k not in ("gain", "input_shape")}
    assert golden["input_shape"] == list(image().shape)
    assert have.keys() == recorded.keys()
    assert {k for k, want in recorded.items() if not matches(have[k], want)} == set()


def test_size(name: str) -> None:
    module = MODULES[name]()
    assert sum(p.numel() for p in module.parameters()) == PARAMETERS[name]
    assert sum(b.numel() for b in module.buffers()) == BUFFERS[name]


@pytest.mark.parametrize("size", MACS["mos-m"], ids=str)
def test_cost_is_the_published_one_and_what_is_deployed_costs_less(name: str, size: Size) -> None:
    published, deployed = (
        statistics.measure(dataclasses.replace(registry.get(model), input_size=size))
        for model in (f"{name}-published", name)
    )
    assert [(r.network, r.macs) for r in published] == [("mos", MACS[name][size])]
    detector, pose = deployed
    assert (detector.network, pose.network) == ("detector", "pose")
    assert (detector.shape, pose.shape) == ((1, 3, *size), (1, 65, 3, 3))
    assert detector.macs + pose.macs < MACS[name][size]


def test_class_head_reads_what_is_stitched_as_the_box_and_the_other_way_round(name: str) -> None:
    """Where each task takes only its own stitched features, it is seen whose they are."""
    mos = filled(name)
    with torch.no_grad():
        for key, value in mos.cross_stitch.named_parameters():
            *_, task, source, _ = key.split(".")
            value.fill_(float(task == source))
        before = mos(image())
        mos.get_parameter("stitch_BboxHead.0.conv1x1.bias").add_(1)
        box = mos(image())
        mos.get_parameter("stitch_BboxHead.0.conv1x1.bias").sub_(1)
        mos.get_parameter("stitch_classhead.0.conv1x1.bias").add_(1)
        kind = mos(image())
    assert changed(before, box) == {"conf"}
    assert changed(before, kind) == {"loc"}


def changed(before: tuple[Tensor, ...], after: tuple[Tensor, ...]) -> set[str]:
    pairs = zip(OUTPUTS, before, after, strict=True)
    return {name for name, a, b in pairs if (a - b).abs().max() > 1e-3 * a.abs().max()}


def test_recorded_outputs_tell_the_two_stitches_apart(name: str, mos: Mos, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: with each head reading its namesake, the outputs are not the published ones."""
    monkeypatch.setitem(SOURCES, "classhead", "stitch_classhead")
    monkeypatch.setitem(SOURCES, "bboxhead", "stitch_BboxHead")
    golden, have = GOLDEN[name.replace("-", "_")], outputs(mos)
    assert {k for k in have if not matches(have[k], golden[k])} == set(OUTPUTS)


def test_any_size_is_taken(mos: Mos) -> None:
    count = sum(2 * math.ceil(ODD[0] / s) * math.ceil(ODD[1] / s) for s in (8, 16, 32))
    with torch.inference_mode():
        assert [tuple(t.shape[:2]) for t in mos(image(ODD))] == [(1, count)] * 6


def test_bins_are_three_degrees_wide() -> None:
    angles = expected_angle(torch.eye(66))
    np.testing.assert_allclose(angles, np.arange(66) * 3 - 99)
    assert expected_angle(torch.full((1, 66), 1 / 66)).item() == pytest.approx(-1.5, abs=1e-4)


# --- priors ---


def naive_priors(size: Size) -> NDArray[np.float64]:
    """Rows of x, y, width and height as fractions of the picture, one by one from the definition."""
    rows = []
    for step, sides in ((8, (16, 32)), (16, (64, 128)), (32, (256, 512))):
        for i in range(math.ceil(size[0] / step)):
            for j in range(math.ceil(size[1] / step)):
                for side in sides:
                    x, y = (j + 0.5) * step / size[1], (i + 0.5) * step / size[0]
                    rows.append((x, y, side / size[1], side / size[0]))
    return np.array(rows)


def fractions(centres: Any, sides: Any, size: Size) -> NDArray[np.float64]:
    whole = np.array([size[1], size[0]])
    return np.hstack([np.asarray(centres, np.float64) / whole, np.asarray(sides, np.float64) / whole])


@settings(deadline=None, max_examples=60)
@given(st.tuples(st.integers(32, 200), st.integers(32, 200)))
def test_priors_are_those_of_the_definition(size: Size) -> None:
    want = naive_priors(size)
    maps = [(math.ceil(size[0] / s), math.ceil(size[1] / s)) for s in (8, 16, 32)]
    np.testing.assert_allclose(fractions(*prior_boxes(size), size), want, rtol=1e-12)
    np.testing.assert_allclose(fractions(*priors(maps), size), want, rtol=1e-6)


def test_published_values_of_priors() -> None:
    values = fractions(*prior_boxes((480, 640)), (480, 640))
    np.testing.assert_allclose(values[0], [0.00625, 0.00833333, 0.025, 0.0333333], rtol=1e-5)
    np.testing.assert_allclose(values[-1], [0.975, 0.9666667, 0.8, 1.0666667], rtol=1e-5)


@pytest.mark.parametrize("size", COUNTS, ids=str)
def test_published_number_of_priors(name: str, size: Size) -> None:
    assert len(prior_boxes(size)[0]) == COUNTS[size]
    detector, _ = registry.get(name).network_specs(size)
    (published,) = registry.get(f"{name}-published").network_specs(size)
    assert [t.shape[1] for t in detector.outputs[:3]] == [COUNTS[size]] * 3
    assert [t.shape[1] for t in published.outputs] == [COUNTS[size]] * 6


@pytest.mark.parametrize("size", [(31, 640), (640, 31), (1, 1)], ids=str)
def test_picture_that_is_smaller_than_a_cell_is_refused(size: Size) -> None:
    for model in ("mos-m", "mos-m-published"):
        with pytest.raises(InputError, match="at least 32x32"):
            registry.get(model).network_specs(size)


# --- folding ---


def relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).double().norm() / b.double().norm())


@pytest.mark.parametrize("size", [SMALL, ODD], ids=str)
def test_folded_detector_gives_the_same(mos: Mos, size: Size) -> None:
    """Computed in float64, so that only the folded weights' own rounding is left."""
    detector, folded = Detector(mos).eval(), FoldedDetector(mos).eval()
    assert {p.dtype for p in folded.parameters()} == {torch.float32}
    x = 20 * image(size).double()
    with torch.inference_mode():
        want, have = doubled(detector)(x), doubled(folded)(x)
    assert [t.shape for t in have] == [t.shape for t in want]
    assert max(relative(a, b) for a, b in zip(have, want, strict=True)) < 3e-6


def doubled(module: nn.Module) -> nn.Module:
    return copy.deepcopy(module).double()


def test_folding_leaves_no_normalisation_behind_a_deformable_convolution(mos: Mos) -> None:
    def left(module: nn.Module) -> list[bool]:
        blocks = [m for m in module.modules() if isinstance(m, DeformBlock)]
        return [any(isinstance(m, nn.BatchNorm2d) for m in block.modules()) for block in blocks]

    assert left(FoldedDetector(mos)) == [False] * 17
    assert left(mos) == [True] * 17, "folding must not change what it is given"
    assert not any(isinstance(m, nn.BatchNorm2d) for m in FoldedPose(mos).modules())


def test_folded_pose_gives_the_same(name: str, mos: Mos) -> None:
    probe = registry.get(name).define().probe
    assert probe is not None
    feed = probe("pose", {"patches": (200, 65, 3, 3), "level": (200, 3)}, np.random.default_rng(0))
    given = [torch.from_numpy(feed[k]) for k in ("patches", "level")]
    with torch.inference_mode():
        (want,), (have,) = Pose(mos).eval()(*given), FoldedPose(mos).eval()(*given)
    assert have.shape == (200, 3, 2)
    assert float((have - want).abs().max()) < 1e-3


def test_probe_of_the_pose_network_meets_every_border_and_level(name: str) -> None:
    """An interior cell, four borders and four corners; the features end where the channel says that the map does."""
    probe = registry.get(name).define().probe
    assert probe is not None
    feed = probe("pose", {"patches": (200, 65, 3, 3), "level": (200, 3)}, np.random.default_rng(1))
    inside = feed["patches"][:, 64]
    assert set(np.unique(inside)) == {0, 1}
    assert len({v.tobytes() for v in inside}) == 9
    assert inside[:, 1, 1].all()
    outside = np.broadcast_to(inside[:, None] == 0, (200, 64, 3, 3))
    assert not feed["patches"][:, :64][outside].any()
    assert set(map(tuple, feed["level"].tolist())) == {(1, 0, 0), (0, 1, 0), (0, 0, 1)}


# --- pose heads after the detector ---


def dense_angles(mos: Mos, x: Tensor) -> NDArray[np.float64]:
    """Degrees (P, 3) of every prior, from the bins of the published graph."""
    with torch.inference_mode():
        _, _, _, *bins = mos(x)
    values = np.stack([b[0].double().numpy() for b in bins], axis=1)
    result: NDArray[np.float64] = 3 * (values * np.arange(66)).sum(axis=2) - 99
    return result


def late_angles(mos: Mos, network: nn.Module, x: Tensor, *, bounded: bool = True) -> NDArray[np.float32]:
    """The same from patches of the features. bounded: whether the network is told where the map ends."""
    with torch.inference_mode():
        features = [f.numpy() for f in mos.features(x)]
        count = sum(2 * f.shape[2] * f.shape[3] for f in features)
        feed = gather(features, np.arange(count), anchors=2)
        if not bounded:
            feed["patches"][:, 64] = 1
        (angles,) = network(torch.from_numpy(feed["patches"]), torch.from_numpy(feed["level"]))
    result: NDArray[np.float32] = angles.numpy()[np.arange(count), :, np.arange(count) % 2]
    return result


@pytest.mark.parametrize("late", [Pose, FoldedPose])
@pytest.mark.parametrize("size", [SMALL, ODD], ids=str)
def test_late_angles_equal_the_published_ones_in_every_cell(mos: Mos, size: Size, late: Callable[[Mos], Any]) -> None:
    x = image(size)
    off = np.abs(late_angles(mos, late(mos).eval(), x) - dense_angles(mos, x))
    assert len(off) == len(prior_boxes(size)[0])
    assert off.max() <= 0.01


def test_angles_are_off_at_borders_where_the_map_seems_endless(mos: Mos) -> None:
    """Negative control, and why a patch has one more channel than the map."""
    x = image()
    off = np.abs(late_angles(mos, FoldedPose(mos).eval(), x, bounded=False) - dense_angles(mos, x)).max(axis=1)
    rows, columns = 12, 16
    finest = off[: 2 * rows * columns].reshape(rows, columns, 2)
    assert finest[1:-1, 1:-1].max() <= 0.01
    for border in (finest[0], finest[-1], finest[:, 0], finest[:, -1]):
        assert border.max() > 0.1


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_gather_takes_the_features_around_each_cell(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    sizes = data.draw(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), min_size=1, max_size=3))
    maps = [rng.normal(size=(1, 2, *size)).astype(np.float32) for size in sizes]
    cells = [(k, y, x) for k, (rows, columns) in enumerate(sizes) for y in range(rows) for x in range(columns)]
    chosen = data.draw(st.lists(st.integers(0, 2 * len(cells) - 1), max_size=9))
    feed = gather(maps, np.array(chosen, np.intp), anchors=2)
    assert feed["patches"].shape == (len(chosen), 3, 3, 3)
    assert {a.dtype for a in feed.values()} == {np.dtype(np.float32)}
    for prior, patch, level in zip(chosen, feed["patches"], feed["level"], strict=True):
        k, y, x = cells[prior // 2]
        assert level.tolist() == [float(i == k) for i in range(len(sizes))]
        padded = np.pad(np.concatenate([maps[k][0], np.ones((1, *sizes[k]))]), ((0, 0), (1, 1), (1, 1)))
        np.testing.assert_array_equal(patch, padded[:, y : y + 3, x : x + 3])


# --- checkpoints ---


def saved(state: dict[str, Tensor], path: Path, prefix: str = "module.") -> Path:
    torch.save({"state_dict": {f"{prefix}{k}": v for k, v in state.items()}}, path)
    return path


@pytest.fixture
def state(name: str) -> dict[str, Tensor]:
    return fill(MODULES[name]().state_dict())


def test_checkpoint_as_published_is_loaded(name: str, mos_weights: GetWeights) -> None:
    path = mos_weights(name)
    stored = torch.load(path, weights_only=True)["state_dict"]
    (module,) = registry.get(name).load(path).values()
    assert all(key.startswith("module.") for key in stored)
    for key, value in module.state_dict().items():
        assert torch.equal(value, stored[f"module.{key}"])
    (published,) = registry.get(f"{name}-published").load(path).values()
    assert published.state_dict().keys() == module.state_dict().keys()
    assert not module.training


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("prefix", ["module.", ""])
def test_layout_of_the_file_does_not_matter(
    name: str, state: dict[str, Tensor], prefix: str, nested: bool, tmp_path: Path
) -> None:
    content = {f"{prefix}{k}": v for k, v in state.items()}
    torch.save({"state_dict": content} if nested else content, tmp_path / "any.pth")
    (module,) = registry.get(name).load(tmp_path / "any.pth").values()
    assert all(torch.equal(v, state[k]) for k, v in module.state_dict().items())


@pytest.mark.parametrize("ignored", ["Conv_pose.", ".num_batches_tracked"])
def test_keys_that_nothing_is_computed_with_may_be_missing(
    name: str, state: dict[str, Tensor], mos: Mos, ignored: str, tmp_path: Path
) -> None:
    kept = {k: v for k, v in state.items() if not (k.startswith(ignored) or k.endswith(ignored))}
    assert len(kept) < len(state)
    (module,) = registry.get(name).load(saved(kept, tmp_path / "m.pth")).values()
    with torch.inference_mode():
        assert all(torch.equal(a, b) for a, b in zip(module(image()), mos(image()), strict=True))


LIVE = [
    "fpn.merge2.conv.conv_offset_mask.weight",
    "cross_stitch.fpn3.cross_stitch_unit.pose_r.classhead.param",
    "PoseHead_y.0.Conv_pose.0.weight",
    "ssh1.conv7x7_3.actf.0.running_var",
]


@pytest.mark.parametrize("key", LIVE)
def test_missing_key_is_named(name: str, state: dict[str, Tensor], key: str, tmp_path: Path) -> None:
    del state[key]
    path = saved(state, tmp_path / "m.pth")
    with pytest.raises(CheckpointError, match=f"missing {key}") as refused:
        registry.get(name).load(path)
    assert str(path) in str(refused.value)


@pytest.mark.parametrize("key", LIVE)
def test_value_that_is_not_finite_is_named(name: str, state: dict[str, Tensor], key: str, tmp_path: Path) -> None:
    state[key].view(-1)[-1] = float("nan")
    with pytest.raises(CheckpointError, match=f"{key} is not finite"):
        registry.get(name).load(saved(state, tmp_path / "m.pth"))


def test_unknown_key_is_named(name: str, state: dict[str, Tensor], tmp_path: Path) -> None:
    state["neck.weight"] = torch.zeros(1)
    with pytest.raises(CheckpointError, match=r"unknown neck\.weight"):
        registry.get(name).load(saved(state, tmp_path / "m.pth"))


def test_shape_is_checked(name: str, state: dict[str, Tensor], tmp_path: Path) -> None:
    key = "ClassHead.1.conv1x1.weight"
    state[key] = state[key][:, :32].clone()
    with pytest.raises(CheckpointError, match=rf"{key} is \(4, 32, 1, 1\) and must be \(4, 64, 1, 1\)"):
        registry.get(name).load(saved(state, tmp_path / "m.pth"))


def test_the_other_model_is_refused(mos_weights: GetWeights) -> None:
    with pytest.raises(CheckpointError, match=r"missing body\.conv1\.0\.weight"):
        registry.get("mos-s").load(mos_weights("mos-m"))
    with pytest.raises(CheckpointError, match=r"missing body\.feature_2\.0\.0\.weight"):
        registry.get("mos-m").load(mos_weights("mos-s"))


def test_folder_must_hold_one_checkpoint(mos_weights: GetWeights, tmp_path: Path) -> None:
    known = registry.get("mos-m")
    with pytest.raises(InputError, match="none is there"):
        known.find_weights(tmp_path)
    with pytest.raises(InputError, match=r"there is no file .*absent\.pth"):
        known.find_weights(tmp_path / "absent.pth")
    (tmp_path / "MOS-M.pth").symlink_to(mos_weights("mos-m"))
    assert known.find_weights(tmp_path) == {"mos": tmp_path / "MOS-M.pth"}
    (tmp_path / "MOS-S.pth").symlink_to(mos_weights("mos-s"))
    with pytest.raises(InputError, match=r"two could be meant: MOS-M\.pth, MOS-S\.pth"):
        known.find_weights(tmp_path)


def test_models_are_listed() -> None:
    published = ("mos-m", "mos-m-published", "mos-s", "mos-s-published")
    assert list(registry.MODELS) == ["mos-tiny", "mtcnn", *published, "landmarks106", "img2pose", "mogface"]
    for name in MODULES:
        assert registry.get(name).checkpoint_parts == registry.get(f"{name}-published").checkpoint_parts == ("mos",)
