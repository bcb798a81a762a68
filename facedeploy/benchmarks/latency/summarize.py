"""From what a run saw to its record: spreads, ratios, what was lost, who is fastest."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from facedeploy.artifact.folder import MANIFEST, Artifact
from facedeploy.benchmarks.confidence import FEWEST, Rounds, mean_of, median_of, ratio_of
from facedeploy.benchmarks.latency.conditions import Moment, make_conditions
from facedeploy.benchmarks.latency.protocol import Floats
from facedeploy.benchmarks.latency.vendors import TOLERANCE
from facedeploy.benchmarks.record import (
    PHASES,
    VERSION,
    Cold,
    Found,
    MeasuredLayer,
    Measurement,
    Protocol,
    Record,
    Spread,
    Throughput,
    VendorCheck,
)
from facedeploy.core.hashing import sha256
from facedeploy.machine.records import During, Machine
from facedeploy.metrics.face_loss import Judge, Prediction
from facedeploy.metrics.interval import Interval
from facedeploy.runtimes.wrapped import Feeds

_DIGITS = 4  # Of milliseconds: what a clock call takes.


@dataclass
class Candidate:
    """An artifact, and what a run sees of it on its way. times: seconds of each opening, (phases, rounds, pictures)."""

    name: str
    artifact: Artifact
    times: list[Floats] = field(default_factory=list)
    answers: tuple[Prediction, ...] = ()
    described: Mapping[str, Any] = field(default_factory=dict)
    sizes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    executed: Mapping[str, int] = field(default_factory=dict)
    layers: tuple[MeasuredLayer, ...] = ()
    feeds: Mapping[str, Feeds] = field(default_factory=dict)
    cold: Cold | None = None
    throughput: Throughput | None = None
    vendors: tuple[VendorCheck, ...] = ()
    steady: bool = True

    @property
    def milliseconds(self) -> Mapping[str, Floats]:
        """By phase, (rounds, pictures), as they are kept."""
        times = np.round(np.concatenate(self.times, axis=1) * 1e3, _DIGITS)
        return dict(zip(PHASES, times, strict=True))


@dataclass
class RunLog:
    """How a run went. before, after: the machine; seconds: between them, of which `warmed` for warm-up. during: what a
    board's sensors said in between. machine: what it ran on, where that is not this one. remarks: sentences of what
    a reader must know.
    """

    before: Moment
    after: Moment
    seconds: float = 0.0
    warmed: float = 0.0
    during: During | None = None
    machine: Machine | None = None
    remarks: tuple[str, ...] = ()


def make_record(
    candidates: Sequence[Candidate], protocol: Protocol, log: RunLog, files: Sequence[str], max_drop: float
) -> Record:
    """Write down what a run found.

    Args:
        candidates: The artifacts, and what was measured of them.
        protocol: How it was measured.
        log: How the run went.
        files: Names of the pictures.
        max_drop: Points of average precision that the fastest may lose.

    Returns:
        The record.
    """
    lengths = tuple(part.shape[1] for part in candidates[0].times)
    rounds = Rounds(lengths, protocol.seed)
    measurements = tuple(_measurement(c, candidates, rounds) for c in candidates)
    return Record(
        version=VERSION,
        protocol=protocol,
        protocol_digest=protocol.digest,
        conditions=make_conditions(
            log.before,
            log.after,
            seconds=log.seconds,
            warmed=log.warmed,
            unsteady=[c.name for c in candidates if not c.steady],
            times={c.name: c.milliseconds["whole"] for c in candidates},
            lengths=lengths,
            threads=protocol.threads,
            also=[*log.remarks, *(remark for m in measurements for remark in _vendor_remarks(m))],
            during=log.during,
            ran_on=log.machine,
        ),
        pictures=tuple(files),
        measurements=measurements,
        scores=(),
        max_drop=max_drop,
        fastest=fastest(measurements, rounds, max_drop),
        openings=lengths,
    )


def _measurement(c: Candidate, candidates: Sequence[Candidate], rounds: Rounds) -> Measurement:
    manifest = c.artifact.manifest
    times = c.milliseconds
    reference = candidates[0].milliseconds["whole"]
    truth = next(other for other in candidates if other.artifact.manifest.model == manifest.model)
    return Measurement(
        name=c.name,
        digest=sha256(c.artifact.path / MANIFEST),
        model=manifest.model,
        target=str(manifest.target),
        input_sizes=c.sizes,
        size=c.artifact.size,
        runtime=c.described,
        executed=c.executed,
        layers=c.layers,
        cold=c.cold,
        spread={phase: _spread(times[phase], rounds) for phase in PHASES},
        samples={phase: tuple(map(tuple, times[phase].tolist())) for phase in PHASES},
        ratio=rounds.interval(ratio_of(reference, times["whole"])),
        throughput=c.throughput,
        vendors=c.vendors,
        found=tuple(tuple(Found(f.box, float(f.score)) for f in answer.faces) for answer in c.answers),
        lost=_lost(truth.answers, c.answers),
    )


def _spread(times: Floats, rounds: Rounds) -> Spread:
    p90, p99 = np.percentile(times, (90, 99)).tolist()
    return Spread(rounds.interval(median_of(times)), p90, p99, rounds.interval(mean_of(times)))


def _lost(truth: Sequence[Prediction], answers: Sequence[Prediction]) -> float | None:
    points = Judge(tuple(truth), 0.0).loss(answers).ap
    return None if points is None or math.isnan(points) else points


def fastest(measurements: Sequence[Measurement], rounds: Rounds, max_drop: float) -> str | None:
    """The one that is faster than each other one that may be, with an interval that leaves 1 out; None if there is no
    such one, or too few rounds to know.
    """
    model = measurements[0].model
    able = [m for m in measurements if m.model == model and m.lost is not None and m.lost <= max_drop]
    if not able or rounds.count < FEWEST:
        return None
    best = max(able, key=lambda m: m.ratio.value)
    others = [m for m in able if m is not best]
    return best.name if all(_faster(best, other, rounds).low > 1 for other in others) else None


def _faster(a: Measurement, b: Measurement, rounds: Rounds) -> Interval:
    slow, fast = (np.array(m.samples["whole"]) for m in (b, a))
    return rounds.interval(ratio_of(slow, fast))


def _vendor_remarks(m: Measurement) -> Iterator[str]:
    for check in m.vendors:
        if abs(check.ratio.value - 1) > TOLERANCE:
            yield (
                f"{m.name}: {check.network} takes {check.ratio.value:.2f} times what {check.tool} says "
                f"({check.ratio.low:.2f} to {check.ratio.high:.2f}), more than {TOLERANCE:.0%} off."
            )
