"""What a device answers: lines of JSON among whatever else it prints, read with care."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from typing import Any

from facedeploy.core import errors
from facedeploy.core.errors import DeviceError, FacedeployError, InputError, brief
from facedeploy.core.face import Face
from facedeploy.core.progress import Progress
from facedeploy.core.serialization import from_plain
from facedeploy.devices.connection import Device
from facedeploy.devices.python.request import MARK, WorkerMessage

_LARGEST = 1e9
_BEGINNING = json.dumps({MARK: 0})[:-2].encode()


def read_answer(device: Device, said: Iterable[bytes], progress: Progress) -> WorkerMessage:
    """The last line of what a device says; the steps before it are progress. An empty answer where there is none.

    Raises:
        FacedeployError: what the device says is wrong, of the class that it names.
        DeviceError: nobody can read it.
    """
    answer = WorkerMessage()
    for line in _lines(said):
        answer = _read_line(device, line)
        if answer.step is not None:
            progress(f"{device.name}: {answer.step}")
    if answer.error is not None:
        kind, sentence = answer.error
        msg = f"on {device.name}: {sentence}"
        raise _error(kind)(msg)
    return answer


def possible(face: Face) -> bool:
    """Whether all numbers of a face are such as a picture can give."""
    points = [v for point in face.landmarks or () for v in point]
    angles = [v for v in (face.yaw, face.pitch, face.roll) if v is not None]
    said = (*points, *angles, *(face.embedding or ()), *(face.classes or {}).values())
    return all(math.isfinite(v) and abs(v) < _LARGEST for v in (*face.box, face.score, *said))


def _lines(said: Iterable[bytes]) -> Iterator[bytes]:
    """Those of a device's lines that are answers: a login script, or a library, may say others."""
    held = bytearray()
    for block in said:
        held += block
        if b"\n" in block:
            *lines, rest = bytes(held).split(b"\n")
            held = bytearray(rest)
            yield from (line for line in lines if line.startswith(_BEGINNING))


def _read_line(device: Device, line: bytes) -> WorkerMessage:
    try:
        return from_plain(WorkerMessage, _shown(json.loads(line)[MARK]))
    except (ValueError, KeyError, RecursionError, InputError) as error:
        msg = f"{device.name} answers what cannot be read ({brief(error)}): is its disk or memory full?"
        raise DeviceError(msg) from error


def _shown(data: Any) -> Any:
    """The same with no text that a terminal would obey."""
    if isinstance(data, str):
        return "".join(c if c.isprintable() else " " for c in data)
    if isinstance(data, list):
        return [_shown(v) for v in data]
    if isinstance(data, dict):
        return {_shown(k): _shown(v) for k, v in data.items()}
    return data


def _error(kind: str) -> type[FacedeployError]:
    """The class of an error that a device names."""
    found = getattr(errors, kind, None)
    return found if isinstance(found, type) and issubclass(found, FacedeployError) else DeviceError
