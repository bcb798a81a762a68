"""What a phone is, and whether it can do what it is asked, before anything is sent to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from facedeploy.artifact.folder import Artifact
from facedeploy.core.errors import InputError
from facedeploy.devices.adb import AdbDevice
from facedeploy.devices.phone.state import MARK, listed, mask, sections
from facedeploy.devices.python.request import MeasurementSettings
from facedeploy.devices.shell import readable, talk
from facedeploy.machine.android_dumpsys import CPUS, PROPERTIES, Phone, big_cores, parse_clusters, parse_properties
from facedeploy.machine.elf import read_program

_OLDEST = 26  # Android 8.0, the first whose toybox has sha256sum: AOSP, system/core/shell_and_utilities/README.md.
_NEEDED = ("flock", "tar", "sha256sum", "timeout", "find", "touch", "ln")
_MACHINES = {
    **{"arm64-v8a": "aarch64", "armeabi-v7a": "arm", "armeabi": "arm", "x86_64": "x86_64", "x86": "i386"},
    "riscv64": "riscv64",
}
_LINKERS = ("/system/bin/linker", "/system/bin/linker64")
_HOW = "docs/guides/phones.md says how it is built with the NDK"
_MOST, _SECONDS = 4 << 20, 60.0


@dataclass(frozen=True)
class PhoneProbe:
    """What a phone is.

    Attributes:
        phone: What it says of itself.
        machine: Such as "aarch64".
        kernel: Such as "5.15.110-android14".
        big: Numbers of the cores to measure on.
        little: Numbers of the others whose clocks it tells. Both are empty where it tells none.
        saving: Whether the battery saver is on.
    """

    phone: Phone
    machine: str
    kernel: str
    big: tuple[int, ...]
    little: tuple[int, ...]
    saving: bool

    @property
    def system(self) -> str:
        android = f"Android {self.phone.android}" if self.phone.android else "Android"
        return f"{android} (Linux {self.kernel or 'unknown'})"


def probe_phone(device: AdbDevice) -> PhoneProbe:
    """Ask a phone what it is.

    Raises:
        DeviceError: it cannot be reached.
        InputError: its Android is too old, or is none.
    """
    asked = {
        "properties": PROPERTIES,
        "cpus": CPUS,
        "kernel": "uname -r",
        "machine": "uname -m",
        "saver": "settings get global low_power",
        "missing": f"for c in {' '.join(_NEEDED)}; do command -v $c >/dev/null 2>&1 || echo $c; done",
    }
    script = "; ".join(f"echo; echo {MARK} {name}; {command} 2>/dev/null" for name, command in asked.items())
    said = b"".join(talk(device, f"{script}; exit 0", "connecting", most=_MOST, limit=_SECONDS))
    parts = sections(said)
    phone = parse_properties(parts.get("properties", ""))
    if phone.sdk is None or (missing := readable(parts.get("missing", "")).split()) or phone.sdk < _OLDEST:
        lacks = f", and no {', '.join(missing)}" if phone.sdk is not None and missing else ""
        msg = (
            f"{device.name} has Android {phone.android or 'of an unknown version'} (API {phone.sdk}){lacks}: "
            "8.0 or newer is needed"
        )
        raise InputError(msg)
    clusters = parse_clusters(parts.get("cpus", ""))
    chosen = device.cores or big_cores(clusters)
    known = {core for cluster in clusters for core in cluster.cores}
    return PhoneProbe(
        phone,
        readable(parts.get("machine", ""), 40),
        readable(parts.get("kernel", ""), 80),
        chosen,
        tuple(sorted(known - set(chosen))),
        parts.get("saver", "").strip() == "1",
    )


def pins(device: AdbDevice, cores: Sequence[int]) -> bool:
    """Whether the phone lets a program run on these cores only.

    Raises:
        DeviceError: it cannot be reached.
        InputError: it does not, and the user named them.
    """
    if not cores:
        return False
    script = f"echo; taskset {mask(cores)} true >/dev/null 2>&1 && echo pinned; exit 0"
    said = b"".join(talk(device, script, "pinning a program to cores", most=_MOST, limit=_SECONDS))
    pinned = readable(said) == "pinned"
    if not pinned and device.cores is not None:
        msg = f"{device.name} does not let a program run on cores {listed(cores)}: name others, or leave cores= out"
        raise InputError(msg)
    return pinned


def check_runner(device: AdbDevice) -> Path:
    """The runner, if there is one that Android loads.

    Raises:
        InputError: none is named, or it is no program of Android.
    """
    if device.runner is None:
        msg = f"{device.name} needs the program that measures there: name it as in {device.name}?runner=PATH; {_HOW}"
        raise InputError(msg)
    program = read_program(device.runner)
    if program.interpreter is not None and program.interpreter not in _LINKERS:
        msg = (
            f"{device.runner} is no program for Android: it is loaded by {readable(program.interpreter, 60)}, which no "
            f"phone has; {_HOW} (or link it with -static)"
        )
        raise InputError(msg)
    return device.runner


def check_phone(device: AdbDevice, found: PhoneProbe) -> None:
    """Check that a phone runs the runner.

    Raises:
        InputError: it is built for another processor.
    """
    assert device.runner is not None
    wanted, machine = _MACHINES.get(found.phone.abi or ""), read_program(device.runner).machine
    if wanted is None or machine != wanted:
        msg = (
            f"{device.runner} is built for {machine or 'another processor'}, and {device.name} is "
            f"{found.phone.abi or 'of an unknown ABI'}: build it for that; {_HOW}"
        )
        raise InputError(msg)


def check_settings(device: AdbDevice, artifacts: Sequence[Artifact], settings: MeasurementSettings) -> None:
    """Check that it can be measured on a phone.

    Raises:
        InputError: it cannot; the sentence says what.
    """
    refused = next(_refused(settings), None)
    if refused is not None:
        msg = f"{refused} cannot be had on a phone ({device.name}): leave it out"
        raise InputError(msg)
    for artifact in artifacts:
        if artifact.manifest.target.backend != "ncnn":
            msg = (
                f"{artifact.path} is for {artifact.manifest.target}: phones run ncnn, so export with --target ncnn-fp16"
            )
            raise InputError(msg)


def _refused(settings: MeasurementSettings) -> Iterator[str]:
    if settings.runtime is not None:
        yield "--runtime"
    if settings.streams > 1:
        yield "--streams"
    if settings.layers:
        yield "--layers"
    if settings.vendors:
        yield "--vendors"
