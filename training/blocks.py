"""Time candidate building blocks of a tiny face detector, before an architecture is chosen.

    python -m training.blocks --rounds 60 --report blocks.json

Blocks have random weights and no BatchNorm, as if it were folded. Each block is built as a stack of one and a stack
of `_DEPTH`; the difference of their times, over the difference of their depths, is the time of one block without what
a network pays once (the conversion of its input and output, the call). All networks take turns in rounds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from facedeploy.formats.ncnn import bin as weights
from facedeploy.formats.ncnn import param as graph

Floats = NDArray[np.float32]
Run = Callable[[], object]

_DEPTH = 5
_OPSET = 17
_INT8_TAG = 0x000D4B38
_PNNX_SECONDS = 60
# What a run is called: backend, precision, threads.
RUNS = ("ov-fp32-1", "ov-fp32-2", "ov-int8-1", "ov-int8-2", "ncnn-fp32-1", "ncnn-int8-1")
# height, width, channels: strides 4, 8 and 16 of a 240x320 picture.
SETTINGS = ((60, 80, 32), (30, 40, 32), (30, 40, 48), (30, 40, 64), (15, 20, 64), (15, 20, 96))


class Residual(nn.Module):
    """x + body(x), and a ReLU after it where `relu` is set."""

    def __init__(self, body: nn.Module, relu: bool = False) -> None:
        super().__init__()
        self.body = body
        self.last: nn.Module = nn.ReLU() if relu else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.last(x + self.body(x))  # type: ignore[no-any-return]


class Partial(nn.Module):
    """A dense 3x3 convolution of the first quarter of the channels; the others pass."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.sizes = [channels // 4, channels - channels // 4]
        self.conv = nn.Conv2d(self.sizes[0], self.sizes[0], 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        head, tail = torch.split(x, self.sizes, dim=1)
        return torch.cat((self.conv(head), tail), dim=1)


def conv(ins: int, outs: int, side: int = 1, groups: int = 1, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(ins, outs, side, stride=stride, padding=side // 2, groups=groups)


def relu_conv(ins: int, outs: int, side: int = 1, groups: int = 1, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(conv(ins, outs, side, groups, stride), nn.ReLU())


def dense(c: int) -> nn.Module:
    return relu_conv(c, c, 3)


def separable(c: int) -> nn.Module:
    return nn.Sequential(relu_conv(c, c, 3, c), relu_conv(c, c))


def inverted(c: int) -> nn.Module:
    wide = 4 * c
    return Residual(nn.Sequential(relu_conv(c, wide), relu_conv(wide, wide, 3, wide), conv(wide, c)))


def faster(c: int) -> nn.Module:
    return Residual(nn.Sequential(Partial(c), relu_conv(c, 2 * c), conv(2 * c, c)))


def dense_residual(c: int) -> nn.Module:
    return Residual(conv(c, c, 3), relu=True)


def bottleneck(c: int) -> nn.Module:
    half = c // 2
    return Residual(nn.Sequential(relu_conv(c, half), relu_conv(half, half, 3), conv(half, c)), relu=True)


def double_residual(c: int) -> nn.Module:
    return Residual(nn.Sequential(relu_conv(c, c, 3), conv(c, c, 3)), relu=True)


def pointwise(c: int) -> nn.Module:
    return relu_conv(c, c)


BLOCKS: dict[str, Callable[[int], nn.Module]] = {
    "a dense 3x3": dense,
    "b dw3x3 + 1x1": separable,
    "c inverted x4": inverted,
    "d partial (FasterNet)": faster,
    "e dense 3x3 + add": dense_residual,
    "f bottleneck + add": bottleneck,
    "g 1x1": pointwise,
    "h two 3x3 + add": double_residual,
}
STEM = ((3, 16), (16, 32), (32, 48))


@dataclass(frozen=True)
class Candidate:
    """What is measured: the time of `long` less that of `short` (none: the whole of `long`), over `count`."""

    block: str
    size: tuple[int, int, int]
    short: nn.Module | None
    long: nn.Module
    count: int
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Row:
    """One line of the report. `times`: microseconds of one block, by run. `remarks`: by precision."""

    block: str
    height: int
    width: int
    channels: int
    mmacs: float
    params: int
    times: dict[str, float]
    fixed: dict[str, float]
    cosines: dict[str, float]
    remarks: dict[str, str]


def stacks(blocks: Sequence[str], settings: Sequence[tuple[int, int, int]]) -> Iterator[Candidate]:
    for height, width, channels in settings:
        for name in blocks:
            modules = [BLOCKS[name](channels) for _ in range(_DEPTH)]
            shape = (1, channels, height, width)
            short, long = nn.Sequential(modules[0]), nn.Sequential(*modules)
            yield Candidate(name, (height, width, channels), short, long, _DEPTH - 1, shape)


def stems() -> Iterator[Candidate]:
    """Strided layers from the picture on. Whole chains, with their input and output: the output of a shorter chain is
    larger and takes longer to convert than the layer that would follow, so that differences mean nothing.
    """
    layers = [relu_conv(i, o, 3, stride=2) for i, o in STEM]
    for n in range(1, len(STEM) + 1):
        name = "s2 3x3 3" + "".join(f"->{o}" for _, o in STEM[:n])
        yield Candidate(name, (240, 320, 3), None, nn.Sequential(*layers[:n]), 1, (1, 3, 240, 320))


def initialise(model: nn.Module) -> None:
    """Weights that keep the spread of activations through ReLU."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            nn.init.uniform_(module.bias, -0.1, 0.1)  # type: ignore[arg-type]


def macs(model: nn.Module, shape: tuple[int, ...]) -> int:
    total = 0

    def count(module: nn.Module, _: Any, out: Tensor) -> None:
        nonlocal total
        total += out[0, 0].numel() * sum(p.numel() for p in module.parameters() if p.ndim > 1)

    hooks = [m.register_forward_hook(count) for m in model.modules() if isinstance(m, nn.Conv2d)]
    with torch.no_grad():
        model(torch.zeros(shape))
    for hook in hooks:
        hook.remove()
    return total


def parameters(model: nn.Module | None) -> int:
    return sum(p.numel() for p in model.parameters()) if model else 0


def export(model: nn.Module, shape: tuple[int, ...], path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model.eval(),
            (torch.zeros(shape),),
            path,
            dynamo=False,
            opset_version=_OPSET,
            input_names=["in0"],
            output_names=["out0"],
        )


class Samples:
    """Calibration data for onnxruntime."""

    def __init__(self, arrays: Sequence[Floats]) -> None:
        self._left = [{"in0": a} for a in arrays]

    def get_next(self) -> dict[str, Floats] | None:
        return self._left.pop() if self._left else None


def quantise(source: Path, path: Path, samples: Sequence[Floats]) -> None:
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    quantize_static(
        source,
        path,
        Samples(samples),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )


def compile_openvino(path: Path, threads: int, profile: bool = False) -> Any:
    import openvino as ov

    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,
        "PERF_COUNT": profile,
    }
    return ov.Core().compile_model(path, "CPU", settings)


def openvino_run(path: Path, threads: int, x: Floats) -> Callable[[], Floats]:
    request = compile_openvino(path, threads).create_infer_request()
    request.set_input_tensor(tensor_of(x))

    def run() -> Floats:
        request.infer()
        return request.get_output_tensor().data  # type: ignore[no-any-return]

    return run


def tensor_of(x: Floats) -> Any:
    import openvino as ov

    return ov.Tensor(x, shared_memory=False)


def precisions(path: Path) -> str:
    """What OpenVINO runs of a quantised network, by kind of layer and precision, as counts."""
    counts: Counter[str] = Counter()
    for op in compile_openvino(path, 1).get_runtime_model().get_ordered_ops():
        info = {k: str(op.get_rt_info()[k].value) for k in ("layerType", "runtimePrecision", "primitiveType")}
        if info["layerType"] not in ("Input", "Output", "Const"):
            counts[f"{info['layerType']}:{info['primitiveType']}:{info['runtimePrecision']}"] += 1
    return ", ".join(f"{n} {kind}" for kind, n in counts.items())


def to_ncnn(source: Path, shape: tuple[int, ...]) -> tuple[Path, Path]:
    import pnnx

    base = source.with_suffix("")
    files = (Path(f"{base}.param"), Path(f"{base}.bin"))
    outputs = {"ncnnparam": files[0], "ncnnbin": files[1]}
    outputs |= {k: Path(f"{base}.{k}") for k in ("pnnxparam", "pnnxbin", "pnnxonnx", "pnnxpy", "ncnnpy")}
    command = [pnnx.EXEC_PATH, str(source), f"inputshape=[{','.join(map(str, shape))}]f32", "fp16=0"]
    command += [f"{k}={v}" for k, v in outputs.items()]
    subprocess.run(command, cwd=source.parent, capture_output=True, timeout=_PNNX_SECONDS, check=False)
    return files


def ncnn_net(files: tuple[Path, Path], int8: bool, winograd: bool = True) -> Any:
    import ncnn

    net = ncnn.Net()
    options = {"num_threads": 1, "use_vulkan_compute": False, "use_int8_inference": int8}
    options |= {f"use_fp16_{k}": False for k in ("packed", "storage", "arithmetic")}
    options |= {"use_bf16_storage": False, "use_packing_layout": True, "use_winograd_convolution": winograd}
    for name, value in options.items():
        setattr(net.opt, name, value)
    if net.load_param(str(files[0])) or net.load_model(str(files[1])):
        msg = f"ncnn does not load {files[0]}"
        raise RuntimeError(msg)
    return net


def ncnn_run(net: Any, x: Floats) -> Callable[[], Floats]:
    import ncnn

    mat = ncnn.Mat(x[0]).clone()

    def run() -> Floats:
        with net.create_extractor() as extractor:
            extractor.input("in0", mat)
            _, out = extractor.extract("out0")
            return np.asarray(out)

    return run


def largest(net: Any, blobs: Sequence[str], x: Floats) -> dict[str, float]:
    """The largest magnitude of each blob."""
    import ncnn

    found = {}
    with net.create_extractor() as extractor:
        extractor.set_light_mode(False)
        extractor.input("in0", ncnn.Mat(x[0]).clone())
        for blob in blobs:
            found[blob] = float(np.abs(np.asarray(extractor.extract(blob)[1])).max())
    return found


def is_conv(layer: graph.NcnnLayer) -> bool:
    return layer.type in ("Convolution", "ConvolutionDepthWise")


def feeds_only_convs(blob: str, layers: Sequence[graph.NcnnLayer]) -> bool:
    """Whether a blob may stay int8, as ncnn2int8 decides it (without looking through Split)."""
    users = [v for v in layers if blob in v.inputs]
    return bool(users) and all(map(is_conv, users))


def ncnn_int8(files: tuple[Path, Path], x: Floats) -> tuple[Path, Path]:
    """Quantise as ncnn2int8 does: weights per output channel, activations per tensor, both symmetric."""
    layers = graph.parse(files[0].read_text())
    arrays = weights.read(layers, files[1].read_bytes())
    convs = [v for v in layers if is_conv(v)]
    blobs = sorted({b for v in convs for b in (v.inputs[0], v.outputs[0])})
    scales = {k: 127 / max(v, 1e-6) for k, v in largest(ncnn_net(files, False), blobs, x).items()}
    parts, changed = [], []
    for layer in layers:
        if not is_conv(layer):
            changed.append(layer)
            continue
        chained = feeds_only_convs(layer.outputs[0], layers)
        ends = (scales[layer.inputs[0]], *((scales[layer.outputs[0]],) if chained else ()))
        parts.append(int8_bytes(layer, arrays[layer.name], ends))
        term = (1 if layer.type == "ConvolutionDepthWise" else 2) + (100 if chained else 0)
        changed.append(replace(layer, params=(*layer.params, (8, str(term)))))
    made = (files[0].with_suffix(".int8.param"), files[0].with_suffix(".int8.bin"))
    made[0].write_text(graph.render(tuple(changed)))
    made[1].write_bytes(b"".join(parts))
    return made


def int8_bytes(layer: graph.NcnnLayer, arrays: weights.Arrays, ends: Sequence[float]) -> bytes:
    weight = arrays[0].reshape(int(dict(layer.params)[0]), -1).astype(np.float32)
    scale = 127 / np.maximum(np.abs(weight).max(axis=1), 1e-9)
    rounded = np.clip(np.round(weight * scale[:, None]), -127, 127).astype(np.int8).tobytes()
    data = np.uint32(_INT8_TAG).tobytes() + rounded + b"\0" * (-len(rounded) % 4)
    data += b"".join(a.astype(np.float32).tobytes() for a in arrays[1:])
    data += scale.astype(np.float32).tobytes()
    return bytes(data + np.asarray(ends, np.float32).tobytes())


def prepare(model: nn.Module, shape: tuple[int, ...], base: Path) -> tuple[dict[str, Run], dict[str, float], str]:
    """Runs of one network; how near each output is to PyTorch's (cosine); what OpenVINO made of its int8."""
    rng = np.random.default_rng(0)
    samples = [rng.random(shape, np.float32) for _ in range(4)]
    source, quantised = base.with_suffix(".onnx"), base.with_suffix(".int8.onnx")
    export(model, shape, source)
    quantise(source, quantised, samples)
    files = to_ncnn(source, shape)
    x = samples[0]
    runs: dict[str, Callable[[], Floats]] = {
        f"ov-{p}-{n}": openvino_run(path, n, x) for p, path in (("fp32", source), ("int8", quantised)) for n in (1, 2)
    }
    runs["ncnn-fp32-1"] = ncnn_run(ncnn_net(files, False), x)
    runs["ncnn-int8-1"] = ncnn_run(ncnn_net(ncnn_int8(files, x), True, winograd=False), x)
    with torch.no_grad():
        wanted = model(torch.from_numpy(x)).numpy().ravel()
    cosines = {name: cosine(run().ravel(), wanted) for name, run in runs.items()}
    return dict(runs), cosines, precisions(quantised)


def cosine(a: Floats, b: Floats) -> float:
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b) + 1e-12))


def measure(runs: Sequence[Run], rounds: int, repeats: int = 3) -> list[float]:
    """Median time of each in microseconds. They take turns, after a call each that is not counted."""
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(rounds):
        for run, taken in zip(runs, times, strict=True):
            run()
            for _ in range(repeats):
                start = time.perf_counter()
                run()
                taken.append(time.perf_counter() - start)
    return [1e6 * statistics.median(t) for t in times]


def report(candidates: Sequence[Candidate], rounds: int, work: Path) -> list[Row]:
    prepared = []
    for i, candidate in enumerate(candidates):
        initialise(candidate.long)
        models = [m for m in (candidate.short, candidate.long) if m is not None]
        prepared.append([prepare(m, candidate.shape, work / f"{i}-{k}") for k, m in enumerate(models)])
    flat = [run for group in prepared for runs, _, _ in group for run in runs.values()]
    medians = iter(measure(flat, rounds))
    return [
        row(candidate, [{k: next(medians) for k in runs} for runs, _, _ in group], group[-1][1], group[-1][2])
        for candidate, group in zip(candidates, prepared, strict=True)
    ]


def row(candidate: Candidate, times: Sequence[dict[str, float]], cosines: dict[str, float], remark: str) -> Row:
    short = times[0] if candidate.short is not None else dict.fromkeys(times[-1], 0.0)
    each = {k: (v - short[k]) / candidate.count for k, v in times[-1].items()}
    work = macs(candidate.long, candidate.shape)
    work -= macs(candidate.short, candidate.shape) if candidate.short is not None else 0
    size = parameters(candidate.long) - parameters(candidate.short)
    fixed = {k: short[k] - (each[k] if candidate.count > 1 else 0) for k in each}
    mmacs = work / candidate.count / 1e6
    return Row(candidate.block, *candidate.size, mmacs, size // candidate.count, each, fixed, cosines, {"ov": remark})


def table(rows: Sequence[Row]) -> str:
    """Times in microseconds, each with the GMACs per second that it means."""
    head = f"{'block':<22}{'map':>14}{'MMAC':>7}{'params':>8}" + "".join(f"{r:>17}" for r in RUNS)
    lines = [head + "   (us, GMAC/s)"]
    for r in rows:
        cells = "".join(f"{r.times[k]:>10.1f}{1e3 * r.mmacs / r.times[k]:>7.1f}" for k in RUNS)
        size = f"{r.height}x{r.width}x{r.channels}"
        lines.append(f"{r.block:<22}{size:>14}{r.mmacs:>7.2f}{r.params:>8}{cells}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Time building blocks of a tiny detector.")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--blocks", nargs="*", default=list(BLOCKS), choices=list(BLOCKS), metavar="NAME")
    parser.add_argument("--size", nargs=3, type=int, action="append", metavar=("H", "W", "C"))
    parser.add_argument("--no-stem", action="store_true")
    parser.add_argument("--report", type=Path, help="where to write the rows as JSON")
    options = parser.parse_args(arguments)
    torch.manual_seed(0)
    sizes = [tuple(s) for s in options.size] if options.size else SETTINGS
    candidates = [*stacks(options.blocks, sizes), *(() if options.no_stem else stems())]
    with TemporaryDirectory() as work:
        rows = report(candidates, options.rounds, Path(work))
    if options.report:
        options.report.write_text(json.dumps([asdict(r) for r in rows], indent=1))
    print(table(rows))


if __name__ == "__main__":
    main()
