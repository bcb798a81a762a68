"""Under what conditions a run took place, and what a reader must know of them before trusting its numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from facedeploy.benchmarks.confidence import FEWEST
from facedeploy.benchmarks.latency.protocol import Floats
from facedeploy.benchmarks.record import Conditions
from facedeploy.machine import linux as machine
from facedeploy.machine.linux import Ticks
from facedeploy.machine.records import Board, During, Machine, State

# From where on a thing is said: cores, cores, part of the clock, parts of a median.
_BUSY, _STOLEN, _CLOCK, _DRIFT, _SWING = 0.1, 0.02, 0.05, 0.1, 0.1


@dataclass(frozen=True)
class Moment:
    """The machine at the beginning or the end of a run."""

    state: State
    ticks: Ticks | None


def now() -> Moment:
    """This machine now."""
    return Moment(machine.read_state(), machine.read_ticks())


def make_conditions(
    before: Moment,
    after: Moment,
    *,
    seconds: float,
    warmed: float,
    unsteady: Sequence[str],
    times: Mapping[str, Floats],
    lengths: Sequence[int],
    threads: int,
    also: Sequence[str] = (),
    during: During | None = None,
    ran_on: Machine | None = None,
) -> Conditions:
    """Say under what conditions a run took place.

    Args:
        before: The machine before the run.
        after: The machine after the run.
        seconds: How long the run took.
        warmed: Seconds of warm-up.
        unsteady: Artifacts whose warm-up its cap ended.
        times: Artifact -> (rounds, pictures), milliseconds.
        lengths: Rounds of each opening.
        threads: CPU threads of each runtime.
        also: Further remarks.
        during: What the board's sensors said; None where there are none.
        ran_on: What it ran on; None for this machine.

    Returns:
        The conditions, with a remark for each thing that a reader must know.
    """
    here = ran_on or machine.read_machine()
    others = machine.elsewhere(before.ticks, after.ticks)
    stolen = machine.stolen(before.ticks, after.ticks)
    remarks = (
        *_of_company(others, stolen, len(here.usable), threads),
        *_of_states(before.state, after.state),
        *_of_board(here.board, before.state, after.state, during, seconds),
        *_of_warm_up(unsteady),
        *_of_rounds(times, lengths),
        *also,
    )
    return Conditions(here, before.state, after.state, seconds, others, stolen, warmed, not unsteady, remarks, during)


def _of_company(others: float | None, stolen: float | None, cores: int, threads: int) -> Iterator[str]:
    if others is None:
        yield "This system does not say what else ran meanwhile."
    elif others > _BUSY:
        yield (
            f"Other processes kept {others:.2f} of {cores} cores busy: times are too long, and only ratios of this "
            "run, whose artifacts took turns, may be trusted."
        )
        if threads + others > cores + _BUSY:
            yield (
                f"They and {_threads(threads)} had to share cores, from which backends whose threads wait for each "
                "other suffer most: take fewer threads."
            )
    if stolen is not None and stolen > _STOLEN:
        yield f"The hypervisor gave {stolen:.2f} of {cores} cores to others: times vary with what those do."


def _of_states(before: State, after: State) -> Iterator[str]:
    if before.throttled is not None and after.throttled is not None and after.throttled > before.throttled:
        yield f"The processor was throttled {after.throttled - before.throttled} times: let it cool, or lift its quota."
    if before.mhz and after.mhz and abs(after.mhz / before.mhz - 1) > _CLOCK:
        yield f"The clock went from {before.mhz:.0f} to {after.mhz:.0f} MHz."
    # Of a board it is told which clocks may move; those that jetson_clocks fixed keep their governor.
    if before.governor not in (None, "performance") and not (before.sensors and before.sensors.unfixed is not None):
        yield f"The clock is governed by {before.governor}: it follows the load, and times with it."


def _of_board(board: Board | None, before: State, after: State, during: During | None, seconds: float) -> Iterator[str]:
    if board and board.mode and board.highest and board.mode != board.highest:
        yield f"The board is in power mode {board.mode}; {board.highest} would allow more (nvpmodel sets it)."
    if before.sensors is None or after.sensors is None:
        return
    unfixed = tuple(dict.fromkeys((*(before.sensors.unfixed or ()), *(after.sensors.unfixed or ()))))
    if unfixed:
        yield (
            f"Clocks that are not fixed ({', '.join(unfixed)}) follow the load, and times with them: `sudo "
            "jetson_clocks` fixes them."
        )
    meanwhile = during.throttled if during else ()
    hot = sorted({*before.sensors.throttled, *after.sensors.throttled, *meanwhile})
    if hot:
        yield f"Heat slowed the board down ({', '.join(hot)}): let it cool, or give it a fan."
    counted = {name: count - before.sensors.events.get(name, count) for name, count in after.sensors.events.items()}
    events = ", ".join(f"{name} {count} times" for name, count in counted.items() if count > 0)
    if events:
        yield (
            f"The board lowered its clocks for moments in {seconds:.0f} s ({events}): oc1 is too low a voltage of the "
            "supply, oc2 and oc3 are too much power, which a lower power mode avoids; hot is heat."
        )


def _of_warm_up(unsteady: Sequence[str]) -> Iterator[str]:
    if unsteady:
        yield f"{', '.join(unsteady)} did not become steady before warm-up ended."


def _of_rounds(times: Mapping[str, Floats], lengths: Sequence[int]) -> Iterator[str]:
    first = next(iter(times.values()))
    if len(first) < FEWEST:
        yield (
            f"Fewer than {FEWEST} rounds prove nothing: intervals are what single rounds say, and nothing is called "
            "fastest."
        )
        return
    medians = [float(np.median(part)) for part in _openings(first, lengths)]
    if max(medians) > (1 + _DRIFT) * min(medians):
        yield (
            f"The machine changed during the run: the first artifact took {max(medians) / min(medians) - 1:.0%} longer "
            "in its slowest opening than in its fastest."
        )
    swings = {name: _swing(_openings(samples, lengths)) for name, samples in times.items()}
    worst = max(swings, key=lambda name: swings[name])
    if swings[worst] > _SWING:
        yield (
            f"Times swing: half of {worst}'s are at least {swings[worst]:.0%} above its fastest twentieth. Backends "
            "do not suffer alike from what shares a machine, so ratios between them may be others at another hour."
        )


def _openings(times: Floats, lengths: Sequence[int]) -> list[Floats]:
    return np.split(times, np.cumsum(lengths)[:-1])


def _swing(openings: Sequence[Floats]) -> float:
    """How far a typical time of a picture is above the fastest twentieth of its opening, as a part of that."""
    return float(np.median([np.median(part / np.percentile(part, 5, axis=0)) for part in openings])) - 1


def _threads(count: int) -> str:
    return "the thread" if count == 1 else f"{count} threads"
