"""What a machine says of itself, as records have it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Board:
    """What a board or a phone says that it is; None where it does not say.

    Attributes:
        model: Such as "NVIDIA Jetson Orin Nano Developer Kit".
        module: Such as "p3767-0005".
        soc: Such as "tegra234".
        release: Such as "L4T 36.4.3 (JetPack 6.2)".
        mode: Its power mode now.
        highest: Of the power modes that it offers, the one that allows most.
    """

    model: str | None
    module: str | None
    soc: str | None
    release: str | None
    mode: str | None = None
    highest: str | None = None


@dataclass(frozen=True)
class Sensors:
    """What the sensors of a board or a phone say at one moment, by the names that it gives them. What it does not say,
    or what cannot be, is absent.

    Attributes:
        rails: Rail -> watts.
        clocks: Clock -> MHz.
        temperatures: Sensor -> Celsius.
        events: Event, such as an over-current -> how often since boot.
        unfixed: Clocks that may move by themselves; None where it does not say.
        throttled: Parts that heat slows down now.
        fan: Part of its full drive, 0..1.
        rpm: Turns of the fan a minute.
        battery: Charge, percent.
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
    """What one sensor said during a run.

    Attributes:
        low: The least.
        mean: The mean.
        high: The most.
    """

    low: float
    mean: float
    high: float


@dataclass(frozen=True)
class During:
    """What the sensors said during a run, in units of `Sensors`.

    Attributes:
        samples: How often they were asked.
        rails: Rail -> lowest, mean and highest watts.
        clocks: Clock -> lowest, mean and highest MHz.
        temperatures: Sensor -> lowest, mean and highest Celsius.
        throttled: Parts that heat slowed down at any time.
    """

    samples: int
    rails: Mapping[str, Span]
    clocks: Mapping[str, Span]
    temperatures: Mapping[str, Span]
    throttled: tuple[str, ...]


@dataclass(frozen=True)
class State:
    """The machine at one moment. What the system does not say is None.

    Attributes:
        time: ISO 8601, UTC.
        load: Average of the last minute.
        mhz: Mean clock of the usable cores, MHz.
        governor: What sets the clock, such as "performance".
        temperature: Of the hottest sensor, Celsius.
        throttled: How often heat slowed it down since boot.
        sensors: What a board or a phone says beyond that.
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
    """What a run ran on.

    Attributes:
        cpu: Model of the processor.
        architecture: As `uname -m` says.
        flags: Parts of the instruction set that matter to inference.
        cores: How many the machine has.
        usable: Numbers of the cores that this process may use.
        pinned: Whether those are fewer than the machine has.
        memory: Bytes; None where it does not say.
        virtual: Whether a hypervisor is seen; None where that cannot be known.
        system: Name and release of the operating system.
        python: Its version; None where there is none, as on a phone.
        packages: Package -> version, of what takes part.
        board: What a board or a phone says of itself; None for others.
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
