"""Read the arrays of MATLAB files, as WIDER FACE and AFLW2000-3D come in, with SciPy.

SciPy's reader is, by its own documentation, not hardened against files that nobody vouches for. So it runs in a process
of its own, whose memory is bounded, and what it reads comes back as JSON: what a file breaks there breaks nothing here.
Of small files in which three bytes were changed, SciPy 1.17 does not outlive every thirtieth.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from facedeploy.core.errors import InputError, brief
from facedeploy.core.fresh_process import run_module
from facedeploy.core.optional_imports import require
from facedeploy.core.system import bound_memory

# A matrix is an array of float64; a text is a str; a cell is the list of its entries, down the columns. None is what
# labels do not have: structures, objects, complex and sparse matrices.
Value = Any
Wanted = Sequence[tuple[Path, Sequence[str]]]

_MAX_FILE = 64 << 20  # The lists of WIDER FACE are 0.4 MB.
_MAX_ANSWERS = 64 << 20  # All lists of WIDER FACE are 2 MB as JSON, all labels of AFLW2000-3D 8 MB.
_MEMORY = 1 << 30  # Of the process; with SciPy and nothing else it takes 130 MB.
_SECONDS = 300.0


def read_mats(wanted: Wanted) -> list[dict[str, Value]]:
    """Read some variables of each of some files.

    Raises:
        InputError: a file is missing, too large, damaged, no MATLAB file, or has not all of the variables.
        BackendUnavailableError: SciPy is not installed.
    """
    require("scipy", "datasets")
    for path, _ in wanted:
        _check_size(path)
    answers = ask(wanted)
    found = []
    for i, (path, names) in enumerate(wanted):
        answer = answers[i] if i < len(answers) else "its reader breaks on it"
        if isinstance(answer, str):
            msg = f"{path} is no MATLAB file of version 5, or a damaged one ({answer}): get it again"
            raise InputError(msg)
        if missing := [n for n in names if n not in answer]:
            msg = f"{path} has no variable {', '.join(missing)}: it is another file than the data set's"
            raise InputError(msg)
        found.append(answer)
    return found


def ask(wanted: Wanted) -> list[dict[str, Value] | str]:
    """Those variables that each file has, or what is wrong with it; up to a file that breaks the reader."""
    given = json.dumps([[str(path.absolute()), list(names)] for path, names in wanted])
    try:
        said = run_module(__spec__.name, given=given, seconds=_SECONDS, OPENBLAS_NUM_THREADS="1").stdout
    except subprocess.TimeoutExpired as error:
        said = (error.stdout or b"").decode()
    lines = [json.loads(line) for line in said.splitlines(keepends=True) if line.endswith("\n")]
    return [line if isinstance(line, str) else {n: _value(v) for n, v in line.items()} for line in lines]


def _check_size(path: Path) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror}"
        raise InputError(msg) from error
    if size > _MAX_FILE:
        msg = f"{path} is too large to be a list of labels"
        raise InputError(msg)


def _value(plain: Any) -> Value:
    if isinstance(plain, list):
        return [_value(entry) for entry in plain]
    return np.array(plain["values"], np.float64).reshape(plain["shape"]) if isinstance(plain, dict) else plain


def _plain(value: Any) -> Any:
    """As JSON: a list of a cell's entries, a text, or a matrix with its shape."""
    if type(value) is not np.ndarray:
        return None
    if value.dtype.kind == "O":
        return [_plain(entry) for entry in value.ravel(order="F")]
    if value.dtype.kind == "U" and value.size < 2:
        return "".join(value)
    if value.dtype.kind in "biuf":
        return {"shape": value.shape, "values": value.astype(np.float64).ravel().tolist()}
    return None


def _main() -> None:
    """What the process does: a line for each file."""
    loadmat = require("scipy.io", "datasets").loadmat
    wanted = json.load(sys.stdin)
    bound_memory(_MEMORY)
    left = _MAX_ANSWERS
    for path, names in wanted:
        try:
            content = loadmat(path, appendmat=False, variable_names=names)
            line = json.dumps({name: _plain(content[name]) for name in names if name in content})
            if len(line) > left:
                line = json.dumps("it is too large")
        except Exception as error:  # SciPy lets pass whatever happens inside.
            line = json.dumps(brief(error) or type(error).__name__)
        left -= len(line)
        print(line, flush=True)


if __name__ == "__main__":
    _main()
