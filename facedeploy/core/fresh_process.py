"""Run a module of this package in a Python process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_HOME = Path(__file__).parents[2]  # The folder that this package is in.


def run_module(
    module: str, *arguments: str, given: str = "", seconds: float, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run `python -m module arguments`. given: its standard input. environment: variables beside those here.

    Raises:
        subprocess.TimeoutExpired: it took more than `seconds`.
    """
    paths = os.pathsep.join([str(_HOME), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        input=given,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
        env={**os.environ, **environment, "PYTHONPATH": paths},
    )
