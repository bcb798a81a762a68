"""What sensors say while something runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType

from facedeploy.machine.records import During, Sensors, Span

INTERVAL = 1.0  # Seconds. tegrastats' own default.
_PATIENCE = 10.0


@dataclass
class _Tally:
    """Of one sensor, so that a long run takes no more memory than a short one."""

    low: float
    high: float
    total: float
    count: int


class Sampler:
    """Asks for sensors when it is entered, then again and again in a thread, until it is left; it may be entered again.

    read: what to ask; where it says None at first, there is nothing to ask, and no thread. interval: seconds between.
    pause: waits so long and says whether to end, instead of the clock.

    Raises, when it is left:
        whatever `read` raised.
    """

    def __init__(
        self,
        read: Callable[[], Sensors | None],
        interval: float = INTERVAL,
        pause: Callable[[float], bool] | None = None,
    ) -> None:
        self._read = read
        self._interval = interval
        self._pause = pause
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._kinds: tuple[dict[str, _Tally], dict[str, _Tally], dict[str, _Tally]] = ({}, {}, {})
        self._throttled: set[str] = set()
        self._samples = 0

    def __enter__(self) -> Sampler:
        # Its own event each time: a thread that was given up shall not come back.
        self._stop, self._thread = threading.Event(), None
        if self._ask():
            pause = self._pause or self._stop.wait
            self._thread = threading.Thread(target=self._run, args=(pause,), name="sensors", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread is not None:
            # A sensor that hangs shall not hang the benchmark.
            self._thread.join(_PATIENCE)
        if self._error is not None and error is None:
            raise self._error

    def during(self) -> During | None:
        """What they said until now; None where there was nothing to ask."""
        if self._samples == 0:
            return None
        rails, clocks, temperatures = (_spans(tallies) for tallies in self._kinds)
        return During(self._samples, rails, clocks, temperatures, tuple(sorted(self._throttled)))

    def _run(self, pause: Callable[[float], bool]) -> None:
        try:
            while not pause(self._interval):
                self._ask()
        except BaseException as error:
            self._error = error

    def _ask(self) -> bool:
        sensors = self._read()
        if sensors is None:
            return False
        for tallies, values in zip(self._kinds, (sensors.rails, sensors.clocks, sensors.temperatures), strict=True):
            _add(tallies, values)
        self._throttled.update(sensors.throttled)
        self._samples += 1
        return True


def _add(tallies: dict[str, _Tally], values: Mapping[str, float]) -> None:
    for name, value in values.items():
        tally = tallies.setdefault(name, _Tally(value, value, 0.0, 0))
        tally.low, tally.high = min(tally.low, value), max(tally.high, value)
        tally.total, tally.count = tally.total + value, tally.count + 1


def _spans(tallies: Mapping[str, _Tally]) -> dict[str, Span]:
    # A sum of floats may round to a mean that is above all of them.
    return {n: Span(t.low, min(max(t.total / t.count, t.low), t.high), t.high) for n, t in tallies.items()}
