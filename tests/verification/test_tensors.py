"""The judge itself: wrong networks are caught and named, right ones pass."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from facedeploy.artifact.manifest import Parity
from facedeploy.core.errors import InputError, ParityError
from facedeploy.core.network_spec import Axis, NetworkSpec, Shape, TensorSpec
from facedeploy.core.preprocess import Image, Preprocess
from facedeploy.core.synthetic_faces import group_photo, portrait
from facedeploy.core.target import Precision
from facedeploy.models import registry
from facedeploy.pipelines.mtcnn import MtcnnConfig
from facedeploy.runtimes.base import Arrays, RuntimeOptions
from facedeploy.runtimes.torch import TorchRuntime
from facedeploy.sources.probes import probe_inputs
from facedeploy.verification import tensors as parity
from tests.support.fill import fill

SPECS = {spec.name: spec for spec in registry.get("mtcnn").network_specs((120, 160))}
PREPROCESS = MtcnnConfig().preprocess
SMALL = NetworkSpec(
    "small",
    (TensorSpec("x", ("batch", 4)),),
    (TensorSpec("y", ("batch", 4)), TensorSpec("z", ("batch", 4))),
    (Axis("batch", 1, 2, 8),),
)
Function = Callable[[Tensor], tuple[Tensor, Tensor]]


class Module(nn.Module):
    """A network of the spec SMALL."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.function(x)


def small(function: Function) -> TorchRuntime:
    return TorchRuntime(Module(function), SMALL, RuntimeOptions(1))


def mtcnn(name: str, change: Callable[[nn.Module], None] = lambda module: None) -> TorchRuntime:
    """A network with deterministic weights, changed."""
    module = registry.get("mtcnn").build()[name]
    module.load_state_dict(fill(module.state_dict()))
    change(module)
    return TorchRuntime(module, SPECS[name], RuntimeOptions(1))


def scale(parameter: str, factor: float) -> Callable[[nn.Module], None]:
    def change(module: nn.Module) -> None:
        with torch.no_grad():
            module.get_parameter(parameter).mul_(factor)

    return change


def feeds(*rows: list[float]) -> list[Arrays]:
    return [{"x": np.array([row], np.float32)} for row in rows]


def compare(change: Function, *rows: list[float], precision: Precision = "fp32") -> dict[str, Parity]:
    given = feeds(*rows) if rows else feeds([1, -2, 3, 4], [0.5, 0, 1, 2])
    measured = parity.measure(small(lambda x: (x, 2 * x)), small(change), given, precision)
    return {row.output: row for row in measured}


def refused(rows: dict[str, Parity], precision: Precision = "fp32") -> set[str]:
    """The outputs that `check` names."""
    try:
        parity.check(list(rows.values()), precision)
    except ParityError as error:
        return {name for name, row in rows.items() if parity.describe(row) in str(error)}
    return set()


@pytest.mark.parametrize("name", SPECS)
def test_network_agrees_with_itself(name: str) -> None:
    rows = parity.measure(mtcnn(name), mtcnn(name), probe_inputs(SPECS[name], PREPROCESS), "fp32")
    assert [(r.network, r.output, r.runtime) for r in rows] == [(name, t.name, "torch") for t in SPECS[name].outputs]
    assert all((r.max_abs, r.relative_l2) == (0.0, 0.0) and r.cosine == pytest.approx(1) for r in rows)
    parity.check(rows, "fp32")


@pytest.mark.parametrize(
    ("name", "parameter", "output"),
    [
        ("pnet", "conv4_1.weight", "score"),
        ("pnet", "conv4_2.weight", "box"),
        ("rnet", "conv5_2.weight", "box"),
        ("onet", "conv6_1.weight", "score"),
        ("onet", "conv6_3.weight", "landmarks"),
    ],
)
def test_changed_weight_is_caught_and_named(name: str, parameter: str, output: str) -> None:
    """One head's weights are off by a twentieth; the other heads and the other networks are right."""
    broken: list[Parity] = []
    for other, spec in SPECS.items():
        changed = mtcnn(other, scale(parameter, 1.05) if other == name else lambda module: None)
        broken += parity.measure(mtcnn(other), changed, probe_inputs(spec, PREPROCESS), "fp32")
    with pytest.raises(ParityError) as error:
        parity.check(broken, "fp32")
    names = [f"{r.network}.{r.output}" for r in broken]
    assert [n for n in names if n in str(error.value)] == [f"{name}.{output}"]


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("name", SPECS)
def test_changed_first_layer_is_caught_everywhere(name: str, precision: Precision) -> None:
    changed = mtcnn(name, scale("pre_layer.0.weight", 1.3))
    rows = parity.measure(mtcnn(name), changed, probe_inputs(SPECS[name], PREPROCESS), "fp32")
    assert refused({r.output: r for r in rows}, precision) == {t.name for t in SPECS[name].outputs}


def test_swapped_outputs_are_caught() -> None:
    assert refused(compare(lambda x: (2 * x, x))) == {"y", "z"}


def test_swapped_columns_are_caught() -> None:
    assert refused(compare(lambda x: (x, 2 * x.flip(1)))) == {"z"}


def test_swapped_batch_is_caught() -> None:
    pictures = [{"x": np.random.default_rng(0).random((3, 4), np.float32)}]
    rows = parity.measure(small(lambda x: (x, x)), small(lambda x: (x, x.flip(0))), pictures, "fp32")
    assert refused({r.output: r for r in rows}) == {"z"}


def test_outputs_of_another_shape() -> None:
    with pytest.raises(ParityError, match=r"small\.z has shape \(1, 2\) in torch and \(1, 4\) in the reference"):
        compare(lambda x: (x, x[:, :2]))


def test_transposed_output_is_of_another_shape() -> None:
    with pytest.raises(ParityError, match=r"small\.y has shape \(4, 1\)"):
        compare(lambda x: (x.T, x))


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("everywhere", [False, True])
def test_output_that_is_no_number_is_refused(value: float, everywhere: bool, precision: Precision) -> None:
    """Also when only one element of one of the inputs is; and the reference is never right to say it."""

    def spoilt(x: Tensor) -> tuple[Tensor, Tensor]:
        return x, torch.where((x == 3) | torch.tensor(everywhere), value, 2 * x)

    rows = compare(spoilt, [1, 1, 1, 1], [1, 3, 1, 1], [2, 2, 2, 2])
    assert refused(rows, precision) == {"z"}
    both = parity.measure(small(spoilt), small(spoilt), feeds([1, 3, 1, 1], [1, 1, 1, 1]), "fp32")
    assert refused({r.output: r for r in both}, precision) == {"z"}


@pytest.mark.parametrize("first", [True, False])
def test_one_bad_input_of_several_is_enough(first: bool) -> None:
    good, bad = [1.0, 2.0, 3.0, 4.0], [5.0, 2.0, 3.0, 4.0]
    rows = compare(lambda x: (torch.where(x == 5, 6.0, x), 2 * x), *([bad, good] if first else [good, bad]))
    assert refused(rows) == {"y"}
    assert rows["y"].max_abs == 1.0


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("share", [0.5, 2.0], ids=["within", "without"])
def test_relative_tolerance(share: float, precision: Precision) -> None:
    factor = 1 + share * parity.TOLERANCES[precision].relative
    assert refused(compare(lambda x: (x * factor, 2 * x), precision=precision), precision) == (
        {"y"} if share > 1 else set()
    )


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("share", [0.5, 2.0], ids=["within", "without"])
def test_absolute_tolerance_is_for_what_is_almost_zero(share: float, precision: Precision) -> None:
    shift = share * parity.TOLERANCES[precision].absolute
    rows = compare(lambda x: (x + shift, 2 * x), [0, 0, 0, 0], [1e-9, 0, 0, 0], precision=precision)
    assert refused(rows, precision) == ({"y"} if share > 1 else set())


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_almost_zero_does_not_hide_another_input(precision: Precision) -> None:
    """A tiny output is far off in relation and fine; an ordinary one is off by a tenth and is not."""
    tiny = parity.TOLERANCES[precision].absolute / 2

    def off(x: Tensor) -> tuple[Tensor, Tensor]:
        return torch.where(x.abs() < 1e-6, x + tiny, x * 1.1), 2 * x

    assert refused(compare(off, [1, 1, 1, 1], precision=precision), precision) == {"y"}
    assert refused(compare(off, [1e-7, 0, 0, 0], precision=precision), precision) == set()
    assert refused(compare(off, [1e-7, 0, 0, 0], [1, 1, 1, 1], precision=precision), precision) == {"y"}


def test_measures() -> None:
    rows = compare(lambda x: (x + torch.tensor([0.0, 0.0, 0.0, 0.5]), -2 * x), [3, 0, 0, 4])
    assert rows["y"].max_abs == 0.5
    assert rows["y"].relative_l2 == pytest.approx(0.1)
    assert rows["y"].cosine == pytest.approx((9 + 4 * 4.5) / (5 * np.hypot(3, 4.5)))
    assert (rows["z"].max_abs, rows["z"].relative_l2) == (16.0, 2.0)
    assert rows["z"].cosine == pytest.approx(-1.0)


def test_check_says_what_to_try() -> None:
    rows = list(compare(lambda x: (x + 1, 2 * x)).values())
    with pytest.raises(ParityError, match=r"small\.y in torch is off by .*fp16 allows 0.02.*fp32 target"):
        parity.check(rows, "fp16")


@pytest.mark.parametrize("name", SPECS)
def test_probe_inputs_fit_the_network(name: str) -> None:
    spec = SPECS[name]
    given = probe_inputs(spec, PREPROCESS)
    shapes = [feed["image"].shape for feed in given]
    assert len(set(shapes)) == len(given) == (3 if name == "pnet" else 4)
    if name == "pnet":
        assert all(height != width for *_, height, width in shapes)
    else:
        assert [batch for batch, *_ in shapes] == [1, 2, 4, 8]
    for feed in given:
        spec.check_shapes({k: v.shape for k, v in feed.items()}, bounded=True)
        image = feed["image"]
        assert image.dtype == np.float32
        assert image.flags.c_contiguous
        assert 0 <= image.min() < 0.3 < 0.7 < image.max() <= 1


@pytest.mark.parametrize("axis", [Axis("batch", 1, 1, 1), Axis("batch", 4, 6, 6), Axis("batch", 2, 8, 8)], ids=str)
def test_probe_inputs_stay_within_a_narrow_range(axis: Axis) -> None:
    """TensorRT refuses what is larger than the range that its engine was built for."""
    spec = NetworkSpec("narrow", (TensorSpec("image", ("batch", 3, 24, 24)),), (), (axis,))
    sizes = [feed["image"].shape[0] for feed in probe_inputs(spec, PREPROCESS)]
    assert axis.minimum <= min(sizes) <= max(sizes) <= axis.maximum


def test_probe_inputs_are_deterministic_for_a_seed() -> None:
    spec = SPECS["rnet"]
    first, again, other = (probe_inputs(spec, PREPROCESS, seed=seed) for seed in (0, 0, 1))
    for a, b, c in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(a["image"], b["image"])
        assert np.abs(a["image"] - c["image"]).max() > 0.1


def test_probe_inputs_are_prepared_as_the_pipeline_does() -> None:
    spec = SPECS["rnet"]
    plain = probe_inputs(spec, Preprocess())
    rgb = probe_inputs(spec, Preprocess("rgb", mean=(1, 2, 3), scale=0.5))
    for a, b in zip(plain, rgb, strict=True):
        assert a["image"].max() > 180
        expected = (a["image"][:, ::-1] - np.array([1, 2, 3], np.float32)[:, None, None]) * 0.5
        np.testing.assert_allclose(b["image"], expected, atol=1e-4)


def draw_portrait(seed: int) -> Image:
    return portrait(np.random.default_rng(seed), 64)


def draw_group(seed: int) -> Image:
    return group_photo(np.random.default_rng(seed), 80, 200, 3)


@pytest.mark.parametrize(("draw", "shape"), [(draw_portrait, (64, 64, 3)), (draw_group, (80, 200, 3))])
def test_drawn_faces_are_deterministic_for_a_seed(draw: Callable[[int], Image], shape: tuple[int, ...]) -> None:
    first = draw(0)
    assert first.dtype == np.uint8
    assert first.shape == shape
    np.testing.assert_array_equal(draw(0), first)
    assert all(np.abs(draw(seed).astype(int) - first).mean() > 5 for seed in range(1, 6))


def test_one_generator_draws_different_faces() -> None:
    rng = np.random.default_rng(0)
    before = copy.deepcopy(rng)
    one, two = portrait(rng, 48), portrait(rng, 48)
    np.testing.assert_array_equal(portrait(before, 48), one)
    assert np.abs(one.astype(int) - two).mean() > 5


@pytest.mark.parametrize("faces", [1, 2, 5])
def test_faces_of_a_group_differ_and_fill_their_cells(faces: int) -> None:
    """Skin in the middle third of every cell stands out from the background at its corner."""
    image = group_photo(np.random.default_rng(2), 100, 100 * faces, faces).astype(int)
    for cell in np.split(image, faces, axis=1):
        assert np.ptp(cell[20:80, 35:65].mean(axis=2)) > 60


# --- boxes ---


BOXES = NetworkSpec(
    "boxes",
    (TensorSpec("x", (1, 4)),),
    (TensorSpec("boxes", (1, 100, 4)), TensorSpec("scores", (1, 100))),
)


class Boxes(nn.Module):
    """A hundred boxes of 500x500 pixels; the first is as given, and so is its score."""

    def __init__(self, box: list[float], score: float) -> None:
        super().__init__()
        self.box, self.score = box, score

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        boxes, scores = torch.tensor([[0.0, 0, 500, 500]]).repeat(1, 100, 1), torch.full((1, 100), 0.9)
        boxes[0, 0], scores[0, 0] = torch.tensor(self.box), self.score
        return boxes, scores


def overlap(box: list[float], score: float = 0.9) -> Parity:
    """How a network whose first box went astray compares with one where it is 20x20 pixels."""
    reference, candidate = (
        TorchRuntime(Boxes(b, score), BOXES, RuntimeOptions(1)) for b in ([100.0, 100, 120, 120], box)
    )
    row, _ = parity.measure(reference, candidate, [{"x": np.zeros((1, 4), np.float32)}], "fp32")
    return row


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_one_small_box_that_went_astray_is_caught_where_the_norm_hides_it(precision: Precision) -> None:
    row = overlap([102, 100, 122, 120])
    assert row.relative_l2 < parity.TOLERANCES[precision].relative
    assert row.overlap == pytest.approx(18 / 22)
    with pytest.raises(ParityError, match=r"boxes\.boxes in torch .*smallest overlap of a box 0\.818"):
        parity.check([row], precision)


@pytest.mark.parametrize("score", [0.0, 0.29])
def test_box_that_is_no_face_may_be_anywhere(score: float) -> None:
    row = overlap([102, 100, 122, 120], score)
    assert row.overlap == 1
    parity.check([row], "fp32")


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ([100.0, 100, 120, 120], 1.0),
        ([100.0, 100, 120, 110], 0.5),
        ([200.0, 200, 220, 220], 0.0),
        ([120.0, 120, 100, 100], 0.0),
        ([float("nan"), 100, 120, 120], 0.0),
    ],
    ids=["same", "half", "apart", "inside out", "no number"],
)
def test_overlap_of_the_worst_box(box: list[float], expected: float) -> None:
    assert overlap(box).overlap == pytest.approx(expected)


def test_outputs_that_are_no_boxes_have_no_overlap() -> None:
    rows = compare(lambda x: (x, 2 * x))
    assert [row.overlap for row in rows.values()] == [None, None]


# --- inputs that are no pictures ---


def test_network_that_takes_no_picture_needs_a_probe() -> None:
    with pytest.raises(InputError, match="small takes x and not a picture"):
        probe_inputs(SMALL, PREPROCESS)


def test_probe_is_asked_for_every_size() -> None:
    asked: list[tuple[str, Mapping[str, Shape]]] = []

    def probe(network: str, shapes: Mapping[str, Shape], rng: np.random.Generator) -> Arrays:
        asked.append((network, dict(shapes)))
        return {name: rng.random(shape, np.float32) for name, shape in shapes.items()}

    first, again = (probe_inputs(SMALL, PREPROCESS, probe, seed=3) for _ in range(2))
    assert asked[:3] == [("small", {"x": (n, 4)}) for n in (1, 2, 4)]
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a["x"], b["x"])


class Scores(nn.Module):
    """Ten boxes without a face in them but for one score."""

    def __init__(self, score: float) -> None:
        super().__init__()
        self.score = score

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        scores = torch.zeros((1, 100))
        scores[0, 0] = self.score
        return torch.zeros((1, 100, 4)), scores


@pytest.mark.parametrize(
    ("want", "have", "right"),
    [
        (1e-8, 9e-3, True),
        (9e-3, 0.0, True),
        (9e-3, 0.012, False),
        (0.012, 9e-3, False),
        (0.02, 0.0201, False),
        (0.0, float("nan"), False),
    ],
)
def test_scores_of_next_to_nothing_are_equal(want: float, have: float, right: bool) -> None:
    reference, candidate = (TorchRuntime(Scores(score), BOXES, RuntimeOptions(1)) for score in (want, have))
    rows = parity.measure(reference, candidate, [{"x": np.zeros((1, 4), np.float32)}], "fp32")
    assert parity.TOLERANCES["fp32"].accepts(rows[1]) == right
