"""What a program is for, from its first bytes.

Format: System V ABI, "ELF Header" and "Program Header"; numbers of machines as in Linux' include/uapi/linux/elf-em.h.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from facedeploy.core.errors import InputError

HEADER = 20  # Bytes that say which processor a program is for.

_MACHINES = {183: "aarch64", 40: "arm", 62: "x86_64", 3: "i386", 243: "riscv64"}
_ORDERS: dict[int, Literal["little", "big"]] = {1: "little", 2: "big"}
_READ = 1 << 16
_INTERPRETER = 3  # PT_INTERP.


@dataclass(frozen=True)
class Program:
    """What a program runs on.

    Attributes:
        machine: As `uname -m` says; None for a machine that is not known here.
        interpreter: Path of its dynamic loader; None for a static program.
    """

    machine: str | None
    interpreter: str | None


def read_program(path: Path) -> Program:
    """Read the header of an executable file.

    Raises:
        InputError: no such file, or none that Linux or Android runs.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_READ)
    except OSError as error:
        msg = f"cannot read the runner {path}: {error.strerror}"
        raise InputError(msg) from error
    try:
        return _program(data)
    except (struct.error, ValueError) as error:
        msg = f"{path} is no program of Linux or Android (no ELF file): name the runner that was built for the phone"
        raise InputError(msg) from error


def machine_of(data: bytes) -> str | None:
    """The processor that a program is for, from its first bytes; None for one that is not known here.

    Raises:
        ValueError: they are not the header of an ELF program.
    """
    if len(data) < HEADER or data[:4] != b"\x7fELF" or data[5] not in _ORDERS:
        msg = "no ELF program"
        raise ValueError(msg)
    return _MACHINES.get(int.from_bytes(data[18:HEADER], _ORDERS[data[5]]))


def _program(data: bytes) -> Program:
    machine = machine_of(data)
    if data[4] not in (1, 2) or _ORDERS[data[5]] != "little":
        msg = "no program of a known kind"
        raise ValueError(msg)
    wide = data[4] == 2
    (start,) = struct.unpack_from("<Q" if wide else "<I", data, 32 if wide else 28)
    size, count = struct.unpack_from("<HH", data, 54 if wide else 42)
    interpreter = None
    for at in range(start, start + size * count, size) if size else ():
        (kind,) = struct.unpack_from("<I", data, at)
        if kind == _INTERPRETER:
            (offset,) = struct.unpack_from("<Q" if wide else "<I", data, at + (8 if wide else 4))
            interpreter = data[offset : offset + 256].split(b"\0")[0].decode("ascii", errors="replace")
    return Program(machine, interpreter)
