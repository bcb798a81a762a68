"""What an artifact costs at first: a fresh process opens it and runs one picture.

The process has imported this package, numpy and OpenCV, and read the picture, but not the backend: loading that is part
of opening an artifact.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from facedeploy.benchmarks.record import Cold
from facedeploy.core.errors import FacedeployError, InputError
from facedeploy.core.fresh_process import run_module
from facedeploy.core.images import read_picture
from facedeploy.core.serialization import from_plain, to_plain
from facedeploy.pipelines.load import load
from facedeploy.runtimes import Substitute

_SECONDS = 600.0
_SELF = Path("/proc/self")


def measure_cold(
    artifact: Path, picture: Path, *, threads: int, runtime: Substitute | None, options: Mapping[str, Any]
) -> Cold:
    """Ask a fresh process.

    Raises:
        FacedeployError: it failed, or took more than ten minutes.
    """
    asked = json.dumps([str(artifact), str(picture), threads, runtime, to_plain(dict(options))])
    try:
        done = run_module("facedeploy.benchmarks.latency.cold_start", asked, seconds=_SECONDS)
    except subprocess.TimeoutExpired as error:
        msg = f"a fresh process took more than {_SECONDS:.0f} seconds to open {artifact} and run a picture"
        raise FacedeployError(msg) from error
    try:
        return from_plain(Cold, json.loads(done.stdout.splitlines()[-1]))
    except (ValueError, IndexError, InputError) as error:
        said = (done.stderr.strip() or "it said nothing").splitlines()[-1]
        msg = f"a fresh process did not open {artifact} and run a picture (status {done.returncode}): {said}"
        raise FacedeployError(msg) from error


def _main(asked: str) -> None:
    artifact, picture, threads, runtime, options = json.loads(asked)
    image = read_picture(Path(picture))
    held = _restart_peak()
    start = time.perf_counter()
    with load(artifact, threads=threads, runtime=runtime, options=options) as pipeline:
        opened = time.perf_counter()
        pipeline.detect(image)
        ended = time.perf_counter()
    peak = _kilobytes("VmHWM")
    grown = None if held is None or peak is None else max(0, peak - held) * 1024
    print(json.dumps(to_plain(Cold((opened - start) * 1e3, (ended - opened) * 1e3, grown))))


def _restart_peak() -> int | None:
    """Kilobytes that this process holds now; its peak begins anew there."""
    try:
        (_SELF / "clear_refs").write_text("5", encoding="ascii")  # proc(5): resets the peak resident set size.
    except OSError:
        return _kilobytes("VmHWM")
    return _kilobytes("VmRSS")


def _kilobytes(name: str) -> int | None:
    """A line of /proc/self/status. Not getrusage, whose peak may be that of the process that started this one."""
    try:
        found = re.search(rf"^{name}:\s*(\d+) kB$", (_SELF / "status").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) if found else None


if __name__ == "__main__":
    _main(sys.argv[1])
