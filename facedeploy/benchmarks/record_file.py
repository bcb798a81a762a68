"""A record as one JSON file, versioned, written whole and read strictly."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from facedeploy.benchmarks.record import PHASES, VERSION, Measurement, Record
from facedeploy.core.errors import InputError
from facedeploy.core.paths import StrPath
from facedeploy.core.serialization import Document, check_document, read_document, write_json

_DOCUMENT = Document(
    Record,
    "record of a benchmark",
    VERSION,
    advice="measure again with facedeploy benchmark",
    limit=1 << 30,  # A long run of many artifacts has some megabytes of times.
)


def check_place(path: Path) -> None:
    """Check, before any work, that a record can be written there.

    Raises:
        InputError: its folder does not exist, or it is a folder itself.
    """
    if path.is_dir() or not path.absolute().parent.is_dir():
        msg = f"cannot write {path}: name a file in a folder that exists"
        raise InputError(msg)


def write_record(record: Record, path: StrPath) -> None:
    """Write it as JSON, whole or not at all.

    Raises:
        InputError: it cannot be written there.
    """
    try:
        write_json(record, Path(path))
    except OSError as error:
        msg = f"cannot write {path}: {error.strerror}"
        raise InputError(msg) from error


def read_record(path: StrPath) -> Record:
    """Read what `write_record` wrote.

    Raises:
        InputError: no such file, no record, one of another version, or one that was changed by hand.
    """
    return _checked(read_document(_DOCUMENT, Path(path)), path)


def check_record(data: Any, path: object) -> Record:
    """Build a record from plain data. path: where it is from, for messages.

    Raises:
        InputError: it is no record, one of another version, or one that was changed by hand.
    """
    return _checked(check_document(_DOCUMENT, data, path), path)


def _checked(record: Record, path: object) -> Record:
    if record.protocol.digest != record.protocol_digest:
        msg = f"the protocol in {path} is not the one that its digest was made of: measure again"
        raise InputError(msg)
    for measurement in record.measurements:
        if problem := _problem(record, measurement):
            msg = f"{path} contradicts itself: {measurement.name} {problem}"
            raise InputError(msg)
    return record


def _problem(record: Record, measurement: Measurement) -> str | None:
    """What cannot be, of numbers that others calculate with."""
    rounds = sum(record.openings) or len(measurement.samples.get("whole", ()))
    pictures = len(record.pictures)
    for phase in PHASES:
        if phase not in measurement.spread or phase not in measurement.samples:
            return f"says nothing about {phase}"
        shape = [len(row) for row in measurement.samples[phase]]
        if shape != [pictures] * rounds:
            return f"has not {rounds} rounds of {pictures} times of {phase}"
    for what, interval in (("p50", measurement.spread["whole"].p50), ("ratio", measurement.ratio)):
        if not 0 < interval.low <= interval.value <= interval.high < math.inf:
            return f"has a {what} of {interval.value} that is not between {interval.low} and {interval.high}"
    return None
