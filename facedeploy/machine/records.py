"""What a machine says of itself, as records have it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Board:
    """What a board or a phone says that it is: model "NVIDIA Jetson Orin Nano Developer Kit", module "p3767-0005", soc
    "tegra234", release "L4T 36.4.3 (JetPack 6.2)". mode: of power, now; highest: the mode that allows most of those
    that it offers. None where it does not say.
    """

    model: str | None
    module: str | None
    soc: str | None
    release: str | None
    mode: str | None = None
    highest: str | None = None


@dataclass(frozen=True)
class Sensors:
    """What the sensors of a board or a phone say at one moment, by the names that it gives them.

    rails: watts. clocks: MHz. temperatures: Celsius. events: since boot, such as over-currents. unfixed: clocks that
    may move by themselves; None where it does not say. throttled: parts that heat slows down now. fan: part of its full
    drive, 0 to 1; rpm: turns a minute. battery: percent. What it does not say, or what cannot be, is absent.
    """

    rails: Mapping[str, float]
    clocks: Mapping[str, float]
    temperatures: Mapping[str, float]
    events: Mapping[str, int]
    unfixed: tuple[str, ...] | None = None
    throttled: tuple[str, ...] = ()
    fan: float | None = None
    rpm: float | None = None
    battery: float | None = None


@dataclass(frozen=True)
class Span:
    """The least, the mean and the most of what one sensor said."""

    low: float
    mean: float
    high: float


@dataclass(frozen=True)
class During:
    """What the sensors said during a run, in units of `Sensors`. samples: how often they were asked."""

    samples: int
    rails: Mapping[str, Span]
    clocks: Mapping[str, Span]
    temperatures: Mapping[str, Span]
    throttled: tuple[str, ...]


@dataclass(frozen=True)
class State:
    """The machine at one moment. time: ISO 8601, UTC. load: average of the last minute. mhz: mean over the usable
    cores; governor: of the clock; temperature: of the hottest sensor, Celsius; throttled: events since boot. sensors:
    of a board or a phone. None where the system does not say.
    """

    time: str
    load: float | None
    mhz: float | None
    governor: str | None
    temperature: float | None
    throttled: int | None
    sensors: Sensors | None = None


@dataclass(frozen=True)
class Machine:
    """What a run ran on. cores: of the machine; usable: numbers of those that this process may use; pinned: whether
    those are fewer. flags: of the instruction set that matter to inference. virtual: whether a hypervisor is seen.
    python: its version; None where there is none, as on a phone. packages: name -> version, of what takes part. board:
    where it is one that says more of itself.
    """

    cpu: str
    architecture: str
    flags: tuple[str, ...]
    cores: int
    usable: tuple[int, ...]
    pinned: bool
    memory: int | None
    virtual: bool | None
    system: str
    python: str | None
    packages: Mapping[str, str]
    board: Board | None = None
