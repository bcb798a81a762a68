"""A run on a phone: openings with waits between them until it is cool, and what its sensors say meanwhile."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from facedeploy.benchmarks.latency.conditions import Moment
from facedeploy.benchmarks.latency.summarize import Candidate, RunLog
from facedeploy.benchmarks.record import Cold, Protocol
from facedeploy.core.errors import DeviceError
from facedeploy.core.optional_imports import installed_versions
from facedeploy.core.progress import Progress
from facedeploy.devices.adb import AdbDevice
from facedeploy.devices.file_store import enter
from facedeploy.devices.phone.cooldown import Cooler, Cooling
from facedeploy.devices.phone.device_lock import RUN
from facedeploy.devices.phone.requirements import PhoneProbe
from facedeploy.devices.phone.run_folder import RUNNER
from facedeploy.devices.phone.runner_protocol import Opening, Picture, fewest_of, read_opening, request, rounds_of
from facedeploy.devices.phone.state import Reading, listed, mask, read_phone
from facedeploy.devices.python.messages import read_answer
from facedeploy.devices.shell import talk
from facedeploy.machine.android_dumpsys import phone_board
from facedeploy.machine.linux import Ticks
from facedeploy.machine.records import Machine, Sensors
from facedeploy.machine.sampler import Sampler

_MOST = 512 << 20  # Bytes of an answer.
_SEEDS = 1 << 31


@dataclass(frozen=True)
class Runner:
    """How the runner is called.

    Attributes:
        device: The phone.
        cores: Numbers of the cores that it is kept on; none for any.
        protocol: How to measure.
        beat: Seconds between signs of life.
        silence: Seconds without a sign of life after which either side gives the other up.
        limit: Seconds that all the work may take.
        progress: Called with the name of each step.
    """

    device: AdbDevice
    cores: tuple[int, ...]
    protocol: Protocol
    beat: float
    silence: float
    limit: float
    progress: Progress

    def __call__(self, folders: Sequence[str], pictures: Sequence[Picture], rounds: int, seed: int) -> Opening:
        """One process that opens the artifacts and measures them in turns.

        Raises:
            FacedeployError: what the runner says is wrong.
            DeviceError: it was lost, or answers what cannot be.
        """
        asked = request(
            self.protocol,
            folders,
            pictures,
            rounds=rounds,
            seed=seed % _SEEDS,
            beat=self.beat,
            silence=self.silence,
            limit=self.limit,
        )
        pin = f"taskset {mask(self.cores)} " if self.cores else ""
        begun = time.monotonic()
        said = talk(
            self.device,
            f"{enter(self.device)}cd {RUN}; exec {pin}./{RUNNER} measure",
            "measuring",
            most=_MOST,
            send=[asked],
            beat=self.beat,
            silence=self.silence,
            limit=self.limit + self.silence,
        )
        answer = read_answer(self.device, said, self.progress).opening
        if answer is None:
            msg = f"{self.device.name} ended without an answer while measuring: is its memory full?"
            raise DeviceError(msg)
        return read_opening(
            answer,
            self.device.name,
            artifacts=len(folders),
            pictures=len(pictures),
            rounds=rounds,
            fewest=fewest_of(self.protocol),
            elapsed=time.monotonic() - begun,
        )


@dataclass
class PhoneRun:
    """One run, on its way.

    Attributes:
        runner: How the runner is called.
        found: What the phone is.
        candidates: The artifacts, and what was measured of them.
        folders: The artifacts' folders, as the runner names them.
        pictures: The pictures, as the runner names them.
        cooling: When the phone is cool enough.
        interval: Seconds between two looks at the sensors.
        progress: Called with the name of each step.
        seen: Of each process: how the phone was before, what the runner said, how it was after.
        seconds: That measuring took.
    """

    runner: Runner
    found: PhoneProbe
    candidates: Sequence[Candidate]
    folders: Sequence[str]
    pictures: Sequence[Picture]
    cooling: Cooling
    interval: float
    progress: Progress
    seen: list[tuple[Reading, Opening, Reading]] = field(default_factory=list)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self._cooler = Cooler(self._read, self.cooling, self._say)
        self._sampler = Sampler(self._sensors, self.interval)

    def measure(self) -> None:
        """Open all artifacts as often as the protocol says, and measure them each time."""
        protocol, begun = self.runner.protocol, time.perf_counter()
        for i in range(protocol.openings):
            before = self._cooler.wait(f"opening {i + 1} began")
            self._say(f"opening {i + 1} of {protocol.openings}")
            with self._sampler:
                opening = self.runner(self.folders, self.pictures, rounds_of(protocol, i), _seed(protocol, i))
            self.seen.append((before, opening, self._read()))
            self._keep(opening)
        self.seconds = time.perf_counter() - begun

    def measure_cold(self) -> None:
        """One process for each artifact, which opens it and runs one picture."""
        for c, folder in zip(self.candidates, self.folders, strict=True):
            self._cooler.wait(f"{c.name} was opened in a fresh process")
            self._say(f"{c.name}: a fresh process")
            part = self.runner([folder], self.pictures[:1], 0, 0).artifacts[0]
            c.cold = Cold(part.load, part.first, part.memory)

    @property
    def log(self) -> RunLog:
        """How it went."""
        (first, _, _), (_, opening, last) = self.seen[0], self.seen[-1]
        cores = opening.usable
        return RunLog(
            Moment(first.state(cores), Ticks(0.0, 0.0, 0.0, 0.0)),
            Moment(last.state(cores), _spent(self.seen)),
            seconds=self.seconds,
            warmed=sum(opening.warmed for _, opening, _ in self.seen),
            during=self._sampler.during(),
            machine=self._machine(first, opening),
            remarks=(*self._of_cores(opening), *self._cooler.remarks),
        )

    def _keep(self, opening: Opening) -> None:
        for c, part in zip(self.candidates, opening.artifacts, strict=True):
            manifest = c.artifact.manifest
            c.answers = c.answers or part.answers
            c.steady &= part.steady
            c.times.append(part.array)
            c.described = {
                "backend": "ncnn",
                "threads": self.runner.protocol.threads,
                "version": opening.ncnn,
                "precision": manifest.target.precision,
            }
            size = manifest.networks[0].spec.picture_size
            c.sizes = {} if size is None else {manifest.networks[0].spec.name: size}

    def _machine(self, seen: Reading, opening: Opening) -> Machine:
        phone, here = self.found.phone, seen.machine(opening.usable)
        return replace(
            here,
            cpu=phone.soc or here.cpu,
            architecture=self.found.machine,
            system=self.found.system,
            python=None,
            packages={"ncnn": opening.ncnn, **installed_versions("facedeploy")},
            board=phone_board(phone),
        )

    def _of_cores(self, opening: Opening) -> Iterator[str]:
        cores = self.runner.cores
        if not cores:
            yield "The runner was not kept on the big cores: the phone does not say which they are, or refuses taskset."
        elif set(opening.usable) != set(cores):
            yield f"The phone gave the runner cores {listed(opening.usable)}, and not {listed(cores)} as asked for."
        if self.found.saving:
            yield "The battery saver is on, which lowers the clocks: turn it off."

    def _read(self) -> Reading:
        return read_phone(self.runner.device, self.found.little)

    def _sensors(self) -> Sensors:
        return self._read().sensors

    def _say(self, step: str) -> None:
        self.progress(f"{self.runner.device.name}: {step}")


def _seed(protocol: Protocol, opening: int) -> int:
    """Of the order of turns, another for each opening."""
    return protocol.seed * protocol.openings + opening


def _spent(seen: Sequence[tuple[Reading, Opening, Reading]]) -> Ticks | None:
    """What the cores spent while openings ran, without the waits between them."""
    time_, busy, stolen, own = 0.0, 0.0, 0.0, 0.0
    for first, opening, last in seen:
        before, after = first.ticks(opening.usable), last.ticks(opening.usable)
        if before is None or after is None:
            return None
        time_ += after.time - before.time
        busy, stolen = busy + after.busy - before.busy, stolen + after.stolen - before.stolen
        own += opening.processor
    return Ticks(time_, busy, stolen, own)
