"""Whether the processor here is emulated. What is timed there are the emulator's times, and no processor's.

An emulator of programs (QEMU's linux-user, box64, FEX) fakes some files of /proc: /proc/self/exe, /proc/self/stat, and
QEMU from 8.2 on /proc/cpuinfo (its linux-user/syscall.c). To the kernel it is the program that runs all the same, and
its files under /proc/thread-self say so. Numbers of QEMU's own ARM processor: target/arm/tcg/cpu64.c.
"""

from __future__ import annotations

import platform
import re
from pathlib import Path

from facedeploy.core.errors import InputError
from facedeploy.machine.elf import HEADER, machine_of
from facedeploy.machine.sysfs import head, plain_name, text

_SELF = "proc/thread-self"
# Processors that run each other's programs, by the names that systems give them.
_NAMES = {"x86": r"x86_64|amd64|i[3-6]86", "ARM": r"aarch64|arm64|arm.*", "RISC-V": r"riscv.*"}
# A line of /proc/cpuinfo that is of one family only.
_LINES = {"x86": "vendor_id", "ARM": "CPU implementer"}


def find_emulator(root: Path = Path("/"), architecture: str | None = None) -> str | None:
    """Find what emulates the processor of this process.

    Args:
        root: Root of the file system. What cannot be read there says nothing.
        architecture: As `platform.machine()` says.

    Returns:
        A name such as "qemu-aarch64"; None where nothing is seen that emulates.
    """
    family = _family(platform.machine() if architecture is None else architecture)
    name = plain_name(text(root / _SELF / "comm")) or ""
    program = _program(root / _SELF / "exe")
    if None not in (family, program) and family != program:
        return name or f"a program for {program}"
    if name.startswith("qemu-"):
        return name
    info = text(root / "proc/cpuinfo") or ""
    others = [other for other, line in _LINES.items() if re.search(rf"^{line}\s*:", info, re.MULTILINE)]
    if family in _LINES and others and family not in others:
        return f"a program for {others[0]}"
    # Without KVM: a machine of which all is emulated.
    if "QEMU TCG CPU" in info or re.search(r"^CPU implementer\s*: 0x00$(?s:.){0,200}^CPU part\s*: 0x051$", info, re.M):
        return "QEMU"
    return None


def refuse_emulation() -> None:
    """Check that what is timed here is a processor.

    Raises:
        InputError: it is emulated.
    """
    name = find_emulator()
    if name is not None:
        msg = (
            f"the processor here ({platform.machine()}) is emulated by {name}, whose times say nothing of a real one: "
            "measure on the device itself; detect and verify work here"
        )
        raise InputError(msg)


def _family(architecture: str) -> str | None:
    return next((f for f, names in _NAMES.items() if re.fullmatch(names, architecture, re.IGNORECASE)), None)


def _program(path: Path) -> str | None:
    """The family of processors that an ELF program is for."""
    try:
        return _family(machine_of(head(path, HEADER) or b"") or "")
    except ValueError:
        return None
