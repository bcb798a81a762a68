"""The reader of MATLAB files: what is in them comes out, and no damage, however made, gets past it or blows up."""

from __future__ import annotations

import resource
import struct
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facedeploy.benchmarks.accuracy import matfile
from facedeploy.benchmarks.accuracy.matfile import Value, ask, read_mats
from facedeploy.core.errors import BackendUnavailableError, InputError
from tests.support.mat_files import element, header, matrix, write_mat

NESTED: list[list[Any]] = [["a", "event 2"], [np.arange(8, dtype="i4").reshape(2, 4), np.zeros((0, 0), "u1")]]


def read_mat(path: Path, names: Sequence[str]) -> dict[str, Value]:
    (found,) = read_mats([(path, names)])
    return found


@pytest.mark.parametrize("compressed", [True, False])
def test_what_is_written_is_read(compressed: bool, tmp_path: Path) -> None:
    kinds = {f"values{i}": kind for i, kind in enumerate(("f8", "f4", "i4", "u1", "u2", ">f8", "?"))}
    values = {name: np.arange(12).reshape(3, 4).astype(kind) for name, kind in kinds.items()}
    written = {**values, "nested": NESTED, "small": np.array([[7]]), "other": "x", "text": "naïve"}
    names = (*kinds, "nested", "small", "text")
    found = read_mat(write_mat(tmp_path / "a.mat", written, compressed=compressed), names)
    assert set(found) == set(names)
    for name, value in values.items():
        np.testing.assert_array_equal(found[name], value)
        assert found[name].dtype == np.float64
    assert found["small"].tolist() == [[7]]
    assert found["nested"][0] == ["a", "event 2"]
    np.testing.assert_array_equal(found["nested"][1][0], NESTED[1][0])
    assert found["nested"][1][1].size == 0
    assert found["text"] == "naïve"


def test_numbers_that_are_none_come_through(tmp_path: Path) -> None:
    values = np.array([[np.nan, np.inf, -np.inf, 1 / 3]])
    np.testing.assert_array_equal(read_mat(write_mat(tmp_path / "a.mat", {"x": values}), ["x"])["x"], values)


def test_what_labels_do_not_have(tmp_path: Path) -> None:
    written = {"record": {"x": 1}, "complex": np.array([1j]), "lines": np.array(["ab", "cd"])}
    assert read_mat(write_mat(tmp_path / "a.mat", written), list(written)) == dict.fromkeys(written)


def test_several_files_of_their_own_variables(tmp_path: Path) -> None:
    first = write_mat(tmp_path / "a.mat", {"x": np.ones((1, 1)), "y": "no"})
    second = write_mat(tmp_path / "b", {"y": "yes"})
    one, other = read_mats([(first, ["x"]), (second, ["y"])])
    assert (one["x"].tolist(), other) == ([[1.0]], {"y": "yes"})
    assert list(one) == ["x"]


def test_a_missing_variable_or_file_is_named(tmp_path: Path) -> None:
    path = write_mat(tmp_path / "a.mat", {"x": np.ones((1, 1))})
    with pytest.raises(InputError, match=r"a\.mat has no variable y"):
        read_mat(path, ("x", "y"))
    with pytest.raises(InputError, match=r"cannot read .*b\.mat"):
        read_mat(tmp_path / "b.mat", ("x",))


def test_without_scipy_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(BackendUnavailableError, match=r"facedeploy\[datasets\]"):
        read_mat(write_mat(tmp_path / "a.mat", {"x": np.ones((1, 1))}), ("x",))


@pytest.mark.parametrize("version", [0x0200, 0x0000, 0x0300])
def test_other_versions_are_refused(version: int, tmp_path: Path) -> None:
    """7.3 is another format altogether, HDF5."""
    (tmp_path / "a.mat").write_bytes(header(matrix(6, (1, 1), element(9, b"\0" * 8), "x"), version))
    with pytest.raises(InputError, match=r"no MATLAB file of version 5"):
        read_mat(tmp_path / "a.mat", ("x",))


@pytest.mark.parametrize("compressed", [True, False])
def test_damage_is_one_sentence(compressed: bool, tmp_path: Path) -> None:
    """Bytes are changed, or the end is missing: either all variables are read, or the error is ours."""
    whole = write_mat(tmp_path / "a.mat", {"nested": NESTED, "x": np.eye(3)}, compressed=compressed).read_bytes()
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{i}.mat" for i in range(100)]
    for path in paths:
        data = bytearray(whole)
        for place in rng.integers(0, len(data), 3):
            data[place] = rng.integers(0, 256)
        path.write_bytes(data[: len(data) - rng.integers(0, 2) * rng.integers(0, 400)])
    asked = [(path, ("nested", "x")) for path in paths]
    at, broken, read = 0, 0, 0
    while at < len(asked):
        answers = ask(asked[at:])
        read += sum(not isinstance(answer, str) for answer in answers)
        assert all("\n" not in answer for answer in answers if isinstance(answer, str))
        if len(answers) < len(asked) - at:
            broken += 1
            with pytest.raises(InputError, match="its reader breaks on it") as said:
                read_mats(asked[at + len(answers) :][:1])
            assert "\n" not in str(said.value)
        at += len(answers) + 1
    assert 0 < read < len(paths) - broken


def deep(levels: int) -> bytes:
    body = matrix(6, (1, 1), element(9, b"\0" * 8))
    for _ in range(levels):
        body = matrix(1, (1, 1), body)
    return matrix(1, (1, 1), body, "x")


@pytest.mark.parametrize(
    "body",
    [
        # Unpacked it is 2 GB, in 2 MB.
        element(15, zlib.compress(struct.pack("<II", 14, 1 << 31) + b"\0" * (1 << 20)) + b"\0"),
        element(15, zlib.compress(matrix(6, (1, 20 << 20), element(9, b"\0" * (160 << 20)), "x"), 1)),
        # Numbers, cells and letters that are not there; a matrix of a negative size.
        matrix(6, (1 << 30, 1 << 30), element(9, b"\0" * 8), "x"),
        matrix(1, (1 << 30, 1), b"", "x"),
        matrix(1, (1 << 15, 1 << 15, 1 << 15), b"", "x"),
        matrix(4, (1, 1 << 30), element(16, b""), "x"),
        matrix(6, (-1, -1), element(9, b"\0" * 8), "x"),
        # An element longer than the file, and one of an unknown type.
        struct.pack("<II", 14, 0xFFFFFFF0) + b"\0" * 64,
        matrix(6, (1, 1), element(8, b"\0" * 8), "x"),
        # Cells in cells in cells: more of them than a call stack holds.
        deep(3000),
    ],
    ids=["short bomb", "bomb", "huge", "cells", "many cells", "letters", "negative", "long", "type", "deep"],
)
def test_sizes_in_the_file_are_not_believed(body: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    path.write_bytes(header(body))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match=r"damaged|no variable") as said:
        read_mat(path, ("x",))
    assert "\n" not in str(said.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10  # Kilobytes.


def test_a_file_that_is_too_large_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_mat(tmp_path / "a.mat", {"x": np.ones((1, 1))})
    monkeypatch.setattr(matfile, "_MAX_FILE", path.stat().st_size - 1)
    monkeypatch.setattr(matfile, "ask", pytest.fail)
    with pytest.raises(InputError, match=r"a\.mat is too large to be a list of labels"):
        read_mat(path, ("x",))


def test_a_reader_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matfile, "_SECONDS", 0.01)
    with pytest.raises(InputError, match=r"a\.mat is no MATLAB file of version 5, or a damaged one"):
        read_mat(write_mat(tmp_path / "a.mat", {"x": np.ones((1, 1))}), ("x",))


def test_the_official_lists_are_read_as_scipy_reads_them(assets: Path) -> None:
    from scipy.io import loadmat

    path = assets / "images" / "wider_face" / "gt" / "wider_hard_val.mat"
    ours, theirs = read_mat(path, ("event_list", "file_list", "gt_list")), loadmat(path)
    assert ours["event_list"] == [str(v[0]) for v in theirs["event_list"][:, 0]]
    for event, names in enumerate(ours["file_list"]):
        assert names == [str(v[0]) for v in theirs["file_list"][event, 0][:, 0]]
        for mine, his in zip(ours["gt_list"][event], theirs["gt_list"][event, 0][:, 0], strict=True):
            np.testing.assert_array_equal(mine, his)
