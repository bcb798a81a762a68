"""Waiting until a phone is as cool as it was: a warm one lowers its clocks, and who comes later would look slower."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from facedeploy.core.progress import Progress
from facedeploy.devices.phone.state import Reading
from facedeploy.machine.android_dumpsys import STATUSES


@dataclass(frozen=True)
class Cooling:
    """When a phone is cool enough.

    Attributes:
        battery: Degrees that the battery may be above the beginning. It is slow to warm and to cool.
        hottest: Degrees that the hottest sensor may be above the beginning. Cores jump by some degrees whenever
            something runs.
        every: Seconds between two looks.
        most: Seconds of one wait at most.
    """

    battery: float = 2.0
    hottest: float = 6.0
    every: float = 5.0
    most: float = 240.0


@dataclass
class Cooler:
    """Waits for one phone.

    Attributes:
        read: Reads the phone's sensors.
        rules: When it is cool enough.
        progress: Called with the name of each step.
        start: How the phone was at first; None before the first wait.
        remarks: A sentence for each wait that ended before the phone was cool.
    """

    read: Callable[[], Reading]
    rules: Cooling
    progress: Progress
    start: Reading | None = None
    remarks: list[str] = field(default_factory=list)

    def wait(self, what: str) -> Reading:
        """Wait until the phone is cool.

        The first wait is until heat slows nothing down; how the phone is then is what it shall come back to.

        Args:
            what: What comes next, for the remark, such as "opening 2 began".

        Returns:
            How the phone is now.
        """
        begun = time.monotonic()
        while reasons := list(self._reasons(now := self.read())):
            if time.monotonic() - begun >= self.rules.most:
                self.remarks.append(
                    f"The phone was still warm when {what}, after waiting {self.rules.most:.0f} seconds "
                    f"({', '.join(reasons)}): times from then on may be too long."
                )
                break
            self.progress(f"waiting until it is cool ({', '.join(reasons)})")
            time.sleep(self.rules.every)
        self.start = self.start or now
        return now

    def _reasons(self, now: Reading) -> Iterator[str]:
        if now.thermal.status:
            yield f"thermal status {STATUSES[now.thermal.status]}"
        if self.start is None:
            return
        battery, before = now.battery.temperature, self.start.battery.temperature
        if battery is not None and before is not None and battery > before + self.rules.battery:
            yield f"battery {battery:.1f} Celsius, {before:.1f} at the beginning"
        hottest, first = now.hottest, self.start.hottest
        if hottest is not None and first is not None and hottest[1] > first[1] + self.rules.hottest:
            yield f"{hottest[0]} {hottest[1]:.1f} Celsius, the hottest {first[1]:.1f} at the beginning"
