"""What a board or a phone said of itself, in words, for the report and the command line."""

from __future__ import annotations

from collections.abc import Mapping

from facedeploy.benchmarks.record import Conditions
from facedeploy.benchmarks.report.numbers import number
from facedeploy.machine.records import Sensors, Span

UNKNOWN = "not known"
FACTS = (
    "board",
    "power mode",
    "fixed clocks",
    "power",
    "clocks of the board",
    "temperatures",
    "events",
    "fan",
    "battery",
)


def board_facts(conditions: Conditions) -> dict[str, str]:
    """By `FACTS`. Power, clocks and temperatures are means and ranges of the run where it was sampled, or else of its
    end.
    """
    board, before, after = conditions.machine.board, conditions.before.sensors, conditions.after.sensors
    facts = dict.fromkeys(FACTS, UNKNOWN)
    if board is not None:
        facts["board"] = ", ".join(filter(None, (board.model, board.module, board.soc, board.release))) or UNKNOWN
        highest = f" (the highest is {board.highest})" if board.highest and board.highest != board.mode else ""
        facts["power mode"] = f"{board.mode or UNKNOWN}{highest}"
    if after is not None:
        during = conditions.during
        facts["fixed clocks"] = _fixed(after)
        facts["power"] = _readings(during.rails if during else {}, after.rails, "W", 2)
        facts["clocks of the board"] = _readings(during.clocks if during else {}, after.clocks, "MHz", 0)
        facts["temperatures"] = _readings(
            during.temperatures if during else {}, after.temperatures, "\N{DEGREE SIGN}C", 1
        )
        started = before.events if before else {}
        counts = (f"{name} {count - started.get(name, 0)}" for name, count in after.events.items())
        facts["events"] = ", ".join(counts) or UNKNOWN
        facts["fan"] = _fan(after)
        if after.battery is not None:
            was = (
                "" if before is None or before.battery is None else f"{number(before.battery, 0)} \N{RIGHTWARDS ARROW} "
            )
            facts["battery"] = f"{was}{number(after.battery, 0)} %"
    return facts


def _fixed(sensors: Sensors) -> str:
    if sensors.unfixed is None:
        return UNKNOWN
    return f"all but {', '.join(sensors.unfixed)}" if sensors.unfixed else "all that it tells of"


def _readings(spans: Mapping[str, Span], values: Mapping[str, float], unit: str, digits: int) -> str:
    sampled = (
        f"{name} {number(s.mean, digits)} {unit} ({number(s.low, digits)} to {number(s.high, digits)})"
        for name, s in spans.items()
    )
    last = (f"{name} {number(value, digits)} {unit}" for name, value in values.items() if name not in spans)
    return ", ".join((*sampled, *last)) or UNKNOWN


def _fan(sensors: Sensors) -> str:
    drive = None if sensors.fan is None else f"{number(100 * sensors.fan, 0)} %"
    turns = None if sensors.rpm is None else f"{number(sensors.rpm, 0)} rpm"
    return ", ".join(filter(None, (drive, turns))) or UNKNOWN
