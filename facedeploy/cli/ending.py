"""How a command ends: a status, and one sentence where something is wrong."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from facedeploy.cli.output import complain, is_verbose
from facedeploy.core.errors import FacedeployError, brief

T = TypeVar("T")
UNEXPECTED = 70  # EX_SOFTWARE of sysexits.h: neither the answer no, nor the user's mistake.
_CLOSED_PIPE = 141  # As a shell reports SIGPIPE.
# What is wrong with a machine or with its rights, and not with this program.
_OF_THE_MACHINE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE}


def end(run: Callable[[], object]) -> None:
    """Run the command line, and end the process with its status.

    Args:
        run: What parses the arguments and does the work.
    """
    if sys.stderr is None:  # `2>&-`: print would write to stdout instead, and a new file would get the number 2.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115  It stays open.
    if sys.stdout is None:
        complain("facedeploy: stdout is closed, so the answer would be lost: leave `>&-` out, or say `>/dev/null`")
        sys.exit(2)
    problems: list[OSError] = []
    with _watched_stdout(problems):
        status = _status(run, problems)
    if not problems:
        sys.exit(status)
    # So that Python itself does not try once more, and end with a status of its own.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if isinstance(problems[0], BrokenPipeError):
        sys.exit(_CLOSED_PIPE)
    complain(f"facedeploy: cannot write the answer to stdout ({problems[0].strerror}): give it another place")
    sys.exit(2)


@contextlib.contextmanager
def _watched_stdout(problems: list[OSError]) -> Iterator[None]:
    """Note what goes wrong with writing to stdout: an OSError does not say which file it is about."""
    stream = sys.stdout

    def noted(function: Callable[..., T]) -> Callable[..., T]:
        def call(*arguments: Any) -> T:
            try:
                return function(*arguments)
            except OSError as error:
                problems.append(error)
                raise

        return call

    stream.write, stream.flush = noted(stream.write), noted(stream.flush)  # type: ignore[method-assign]
    try:
        yield
        with contextlib.suppress(OSError):
            stream.flush()
    finally:
        del stream.write, stream.flush


def _status(run: Callable[[], object], problems: list[OSError]) -> int:
    try:
        run()
    except SystemExit as ended:
        if isinstance(ended.code, str):
            complain(ended.code)
            return 1
        return ended.code or 0
    except FacedeployError as error:
        complain(f"facedeploy: {error}")
        return error.exit_status
    except OSError as error:
        if problems:
            return 2
        if error.errno not in _OF_THE_MACHINE:
            return _unexpected(error)
        complain(f"facedeploy: cannot use {error.filename or 'a file'}: {error.strerror}")
        return 2
    except Exception as error:
        return _unexpected(error)
    return 0


def _unexpected(error: Exception) -> int:
    if is_verbose():
        traceback.print_exception(error)
    last = traceback.extract_tb(error.__traceback__)[-1]
    hint = "please report it" if is_verbose() else "run it again with -v, and please report what it prints"
    complain(
        f"facedeploy: unexpected {type(error).__name__} in {Path(last.filename).name}, line {last.lineno}: "
        f"{brief(error) or 'without a word'}. This is a fault of facedeploy: {hint}"
    )
    return UNEXPECTED
