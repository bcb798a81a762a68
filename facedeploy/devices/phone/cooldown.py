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
    """battery, hottest: degrees that the battery and the hottest sensor may be above the beginning. A battery is slow
    to warm and to cool; cores are neither, and jump by some degrees whenever something runs. every: seconds between two
    looks; most: seconds of one wait.
    """

    battery: float = 2.0
    hottest: float = 6.0
    every: float = 5.0
    most: float = 240.0


@dataclass
class Cooler:
    """Waits for one phone. remarks: a sentence for each wait that ended before the phone was cool."""

    read: Callable[[], Reading]
    rules: Cooling
    progress: Progress
    start: Reading | None = None
    remarks: list[str] = field(default_factory=list)

    def wait(self, what: str) -> Reading:
        """Wait before something: how the phone is then. The first wait is until heat slows nothing down, and what it
        was then is what it shall come back to. what: for the remark, such as "opening 2 began".
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
