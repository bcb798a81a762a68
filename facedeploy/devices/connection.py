"""What a device is: a place where a local command runs shell scripts. All else is made of that."""

from __future__ import annotations

import abc
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from facedeploy.artifact.folder import Artifact
    from facedeploy.benchmarks.record import Record
    from facedeploy.core.face import Face
    from facedeploy.core.progress import Progress
    from facedeploy.devices.python.request import MeasurementSettings
    from facedeploy.export.build import Engines
    from facedeploy.runtimes import Substitute


@dataclass(frozen=True)
class Device(abc.ABC):
    """Another machine, where a local command runs shell scripts.

    Attributes:
        name: As the user wrote it.
        python: The command that is Python there.
        shell: The path of its POSIX shell.
        folder: Where all that is ours lies there, as a word of that shell.
        timeout: Whether its program `timeout`, if there is one, passes on the status of what it runs.
    """

    name: str
    python: str = "python3"
    shell: str = "/bin/sh"
    folder: str = '${XDG_CACHE_HOME:-"$HOME/.cache"}/facedeploy'
    timeout: bool = True

    @abc.abstractmethod
    def command(self, script: str) -> list[str]:
        """The command of this machine that runs `script` in the device's shell, with its three streams."""

    @abc.abstractmethod
    def failed(self, status: int) -> bool:
        """Whether the status of `command` is that of a connection that failed, and not the script's."""

    def benchmark(
        self, artifacts: Sequence[Path], images: Sequence[Path], settings: MeasurementSettings, progress: Progress
    ) -> Record:
        """What `remote.benchmark_on` measures here."""
        from facedeploy.devices.python.remote import benchmark_on

        return benchmark_on(self, artifacts, images, settings, progress=progress)

    def detect(
        self,
        artifact: Artifact,
        images: Sequence[Path],
        *,
        threads: int,
        runtime: Substitute | None,
        options: Mapping[str, Any],
        progress: Progress,
    ) -> list[list[Face]]:
        """What `remote.detect_on` finds here."""
        from facedeploy.devices.python.remote import detect_on
        from facedeploy.devices.python.request import MeasurementSettings

        return detect_on(
            self, artifact, images, MeasurementSettings(threads, runtime=runtime, options=options), progress=progress
        )

    def build(self, artifact: Artifact, progress: Progress) -> Engines:
        """What `remote.build_on` builds here."""
        from facedeploy.devices.python.remote import build_on

        return build_on(self, artifact, progress=progress)

    def advice(self, said: str) -> str | None:
        """What to do about a connection that failed with these words; None where they say nothing that is known."""
        return None

    @property
    def python_word(self) -> str:
        """`python` as a shell script has it; a ~ is the user's home there."""
        home, slash, rest = self.python.partition("/")
        return f'"$HOME"/{shlex.quote(rest)}' if home + slash == "~/" else shlex.quote(self.python)

    @property
    def by_hand(self) -> str:
        """What a user can type to see for himself why a device cannot be reached."""
        return " ".join(self.command("true"))


@dataclass(frozen=True)
class LocalDevice(Device):
    """This machine, in processes of their own."""

    name: str = "local"
    python: str = sys.executable

    def command(self, script: str) -> list[str]:
        return [self.shell, "-c", script]

    def failed(self, status: int) -> bool:
        return False
