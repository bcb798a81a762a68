"""ncnn with its headers, where NCNN_DIR names the lib/cmake/ncnn of a build: no package has them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest


def ncnn_itself() -> Path:
    """Where CMake finds it. Skips the test where nobody built it."""
    ncnn = os.environ.get("NCNN_DIR")
    if shutil.which("cmake") is None or ncnn is None:
        pytest.skip("no ncnn with headers: build it, and set NCNN_DIR to its lib/cmake/ncnn")
    return Path(ncnn)


def build_with_ncnn(source: Path, build: Path, program: str, *options: str) -> Path:
    """Build a program of a folder with CMake; the program. Skips the test where there is no ncnn."""
    configure = ["cmake", "-S", source, "-B", build, f"-Dncnn_DIR={ncnn_itself()}", *options]
    for command in (configure, ["cmake", "--build", build, "--target", program]):
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return build / program
