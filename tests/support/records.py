"""Generated records of benchmarks: plausible numbers that nobody measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from facedeploy.benchmarks.record import (
    PHASES,
    VERSION,
    Cold,
    Conditions,
    Found,
    MeasuredLayer,
    Measurement,
    Protocol,
    Record,
    Score,
    Spread,
    Throughput,
    VendorCheck,
)
from facedeploy.machine.records import Machine, State
from facedeploy.metrics.interval import Interval, Unbounded

Floats = NDArray[np.float64]

# target -> how many times faster than openvino-fp32, and how many points of AP it loses
TARGETS: Mapping[str, tuple[float, float]] = {
    "torch-fp32": (0.45, 0.0),
    "onnx-fp32": (0.72, 0.0),
    "openvino-fp32": (1.0, 0.0),
    "openvino-fp16": (1.004, 0.03),
    "openvino-int8": (2.1, 0.35),
    "ncnn-fp32": (0.8, 0.01),
    "ncnn-fp16": (0.83, 0.04),
    "ncnn-int8": (1.3, 0.9),
}
# data set -> measure -> unit, value of the first artifact, change for each point of AP lost
MEASURES: Mapping[str, Mapping[str, tuple[str, float, float]]] = {
    "widerface:val": {
        "AP easy": ("points", 84.1, -0.5),
        "AP medium": ("points", 81.7, -0.7),
        "AP hard": ("points", 61.3, -1.0),
    },
    "aflw2000:AFLW2000": {
        "found": ("percent", 98.2, -0.1),
        "NME 5 (box)": ("percent", 3.44, 0.1),
        "yaw": ("degrees", 3.61, 0.2),
        "pose": ("degrees", 4.01, 0.15),
    },
}
_SHARES = {"preprocess": 0.07, "network": 0.82, "postprocess": 0.09}
_STATE = State("2026-03-01T09:30:00+00:00", 0.4, 2600.0, "performance", 61.0, 0)


def make_record(
    targets: Sequence[str] = ("openvino-fp32", "openvino-int8", "ncnn-fp16"),
    *,
    model: str = "mos-tiny",
    milliseconds: float = 14.0,
    better: float = 0.0,
    rounds: int = 24,
    boxes: Mapping[str, Sequence[tuple[float, float, float, float]]] | None = None,
    size: tuple[int, int] = (480, 640),
    remarks: Sequence[str] = (),
    seed: int = 0,
) -> Record:
    """A record of one model, an artifact a target. milliseconds: p50 of openvino-fp32. better: points of AP that the
    model has more than mos-tiny. boxes: faces by picture.
    """
    draw = np.random.default_rng(seed)
    boxes = boxes if boxes is not None else _some_boxes(draw)
    hard = draw.uniform(0.85, 1.3, len(boxes))
    drift = 1 + 0.02 * np.sin(np.arange(rounds) / 5)
    times = [milliseconds / TARGETS[t][0] * _noisy(draw, hard, drift) for t in targets]
    measurements = [
        _measurement(draw, f"{model}-{t}", model, t, size, time, times[0], boxes)
        for t, time in zip(targets, times, strict=True)
    ]
    measurements[0] = replace(measurements[0], ratio=Interval(1.0, 1.0, 1.0), lost=0.0)
    protocol = Protocol(1, "ab" * 32, len(boxes), 2, 2, 3.0, None, 0.05, 5, 3.0, 0, {"score_threshold": 0.5}, 2)
    able = [m for m in measurements if m.lost is not None and m.lost <= 0.5]
    return Record(
        version=VERSION,
        protocol=protocol,
        protocol_digest=protocol.digest,
        conditions=make_conditions(remarks),
        pictures=tuple(boxes),
        measurements=tuple(measurements),
        scores=tuple(s for m in measurements for s in _scores(m, measurements[0], better)),
        max_drop=0.5,
        fastest=max(able, key=lambda m: m.ratio.value).name,
        openings=(rounds - rounds // 2, rounds // 2),
    )


def make_conditions(remarks: Sequence[str] = ()) -> Conditions:
    machine = Machine(
        cpu="Example CPU 3000 @ 2.60GHz",
        architecture="x86_64",
        flags=("avx2", "avx512f", "avx512_vnni"),
        cores=8,
        usable=(0, 1),
        pinned=True,
        memory=16_000_000_000,
        virtual=False,
        system="Linux 6.1",
        python="3.11.7",
        packages={"facedeploy": "0.1.0", "openvino": "2026.1.0", "ncnn": "1.0.20260101"},
    )
    after = replace(_STATE, time="2026-03-01T09:34:10+00:00", load=2.1, temperature=74.5)
    return Conditions(machine, _STATE, after, 250.0, 0.02, None, 6.2, True, tuple(remarks))


def _some_boxes(draw: np.random.Generator) -> dict[str, list[tuple[float, float, float, float]]]:
    made = {}
    for i in range(5):
        corners = draw.uniform(0, (540, 380), (6, 2))
        sides = draw.uniform(20, 90, 6)
        made[f"photo{i}.jpg"] = [(x, y, x + s, y + 1.2 * s) for (x, y), s in zip(corners.tolist(), sides, strict=True)]
    return made


def _noisy(draw: np.random.Generator, hard: Floats, drift: Floats) -> Floats:
    noise = draw.lognormal(0, 0.03, (len(drift), len(hard))) + draw.exponential(0.01, (len(drift), len(hard)))
    late = np.where(draw.random(noise.shape) < 0.01, draw.uniform(1.2, 1.8, noise.shape), 1.0)
    times: Floats = drift[:, None] * hard * noise * late
    return times


def _measurement(
    draw: np.random.Generator,
    name: str,
    model: str,
    target: str,
    size: tuple[int, int],
    times: Floats,
    reference: Floats,
    boxes: Mapping[str, Sequence[tuple[float, float, float, float]]],
) -> Measurement:
    lost = TARGETS[target][1]
    precision = target.split("-")[1]
    bytes_ = {"fp32": 4_600_000, "fp16": 2_400_000, "int8": 1_350_000}[precision]
    samples = {"whole": times, **{k: share * times for k, share in _SHARES.items()}}
    backend = target.split("-")[0]
    return Measurement(
        name=name,
        digest="cd" * 32,
        model=model,
        target=target,
        input_sizes={"detector": size},
        size=bytes_,
        runtime={"backend": backend, "version": "2026.1.0-abc", "threads": 2},
        executed={"u8": 31, "f32": 9} if precision == "int8" else {"f32": 40},
        layers=_layers(draw, precision, float(times.mean())) if backend == "openvino" else (),
        cold=Cold(180.0 + 40 * draw.random(), float(times.mean()) * 2.5, 12 * bytes_),
        spread={phase: _spread(draw, samples[phase]) for phase in PHASES},
        samples={k: tuple(map(tuple, np.round(v, 4).tolist())) for k, v in samples.items()},
        ratio=_interval(draw, reference.sum(axis=1) / times.sum(axis=1), np.median),
        throughput=Throughput(2, _around(1700 / float(times.mean()), 0.02)) if backend == "openvino" else None,
        vendors=_vendors(float(np.median(times))) if backend == "openvino" else (),
        found=tuple(_found(draw, own, lost) for own in boxes.values()),
        lost=lost,
    )


def _layers(draw: np.random.Generator, precision: str, whole: float) -> tuple[MeasuredLayer, ...]:
    kinds = ["Convolution", "Convolution", "Convolution", "GroupConvolution", "Pooling", "Eltwise", "Reorder"]
    weights = draw.gamma(1.2, 1.0, 40)
    times = 0.8 * whole * weights / weights.sum()
    made = []
    for i, milliseconds in enumerate(times.tolist()):
        kind = kinds[i % len(kinds)]
        low = "u8" if precision == "int8" and "Convolution" in kind else "f32"
        made.append(
            MeasuredLayer("detector", f"mos.stage{i // 8}.block{i % 8}.{kind.lower()}", kind, low, milliseconds)
        )
    return tuple(made)


def _vendors(p50: float) -> tuple[VendorCheck, ...]:
    return (VendorCheck("detector", "benchmark_app", 0.812 * p50, 0.8 * p50, Interval(1.015, 1.006, 1.024)),)


def _found(
    draw: np.random.Generator, boxes: Sequence[tuple[float, float, float, float]], lost: float
) -> tuple[Found, ...]:
    kept = [box for box in boxes if draw.random() > 0.25 * min(lost, 1.0)]
    moved = [tuple((np.asarray(box) + draw.normal(0, 0.5, 4)).tolist()) for box in kept]
    if draw.random() < 0.5 * lost:
        moved.append((10.0, 20.0, 52.0, 75.0))
    return tuple(Found(box, float(draw.uniform(0.5, 0.99))) for box in moved)


def _spread(draw: np.random.Generator, times: Floats) -> Spread:
    p90, p99 = np.percentile(times, (90, 99)).tolist()
    return Spread(_interval(draw, times, np.median), p90, p99, _interval(draw, times, np.mean))


def _interval(draw: np.random.Generator, rounds: Floats, statistic: object) -> Interval:
    again = draw.integers(0, len(rounds), (200, len(rounds)))
    assert callable(statistic)
    values = [float(statistic(rounds[i])) for i in again]
    low, high = np.percentile(values, (2.5, 97.5)).tolist()
    value = float(statistic(rounds))
    return Interval(value, min(low, value), max(high, value))


def _around(value: float, part: float) -> Interval:
    return Interval(value, value * (1 - part), value * (1 + part))


def _scores(m: Measurement, first: Measurement, better: float) -> list[Score]:
    made = []
    lost = TARGETS[m.target][1]
    for dataset, measures in MEASURES.items():
        for measure, (unit, base, slope) in measures.items():
            value, width = base + slope * (lost - better), 0.012 * base
            change = None if m is first else Interval(slope * lost, slope * lost - 0.1, slope * lost + 0.1)
            made.append(
                Score(
                    artifact=m.name,
                    dataset=dataset,
                    measure=measure,
                    unit=unit,
                    higher_is_better=slope < 0,
                    value=Interval(value, value - width, value + width),
                    change=change,
                    pictures=322 if unit == "points" else 1000,
                    faces=3970 if unit == "points" else 1000,
                )
            )
    return made


def bounded(value: Interval | Unbounded | None) -> Interval:
    """An interval that must be there."""
    assert isinstance(value, Interval)
    return value
