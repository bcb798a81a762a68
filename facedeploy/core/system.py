"""What Windows and macOS have not, and what is done there instead. Nothing else in the package asks for the system."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import IO, Any


def usable_cores() -> tuple[int, ...]:
    """Numbers of the cores that this process may use; where the system does not say, of all."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def on_signal(name: str, handler: Callable[..., Any]) -> None:
    """Call a handler at a signal, such as "SIGPIPE", where the system has it: Windows has six."""
    number = getattr(signal, name, None)
    if number is not None:
        signal.signal(number, handler)


def lock(file: IO[Any]) -> bool:
    """Lock a file for this process until it is closed, and say whether nobody else has; on Windows nobody is asked."""
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def bound_memory(limit: int) -> None:
    """Let this process have at most so many bytes, and leave no picture of them behind; Windows knows no such limit."""
    try:
        import resource
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def print_anything() -> None:
    """Print a `?` for what the encoding of a stream lacks: that of a pipe on Windows has no arrows, and would raise."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
