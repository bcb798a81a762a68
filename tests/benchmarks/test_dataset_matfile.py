"""The reader of MATLAB files: what is in them comes out, and no damage, however made, gets past it or blows up."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from facedeploy.benchmarks.accuracy.matfile import read_mat
from facedeploy.core.errors import InputError
from tests.support.mat_files import Order, element, matrix, write_mat

NESTED: list[list[Any]] = [["a", "event 2"], [np.arange(8, dtype="i4").reshape(2, 4), np.zeros((0, 0), "u1")]]
# Hypothesis calls the test many times with one folder, and each call writes the same file anew.
same_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["f8", "f4", "i4", "u1", "u2"])
def test_what_is_written_is_read(kind: str, order: Order, compressed: bool, tmp_path: Path) -> None:
    values = np.arange(12, dtype=kind).reshape(3, 4)
    written = {"values": values, "nested": NESTED, "small": np.array([[7]], kind), "other": "x"}
    found = read_mat(
        write_mat(tmp_path / "a.mat", written, compressed=compressed, order=order), ("values", "nested", "small")
    )
    assert set(found) == {"values", "nested", "small"}
    np.testing.assert_array_equal(found["values"], values)
    assert found["small"].tolist() == [[7]]
    assert found["nested"][0] == ["a", "event 2"]
    np.testing.assert_array_equal(found["nested"][1][0], NESTED[1][0])
    assert found["nested"][1][1].size == 0


@pytest.mark.parametrize("compressed", [True, False])
def test_what_scipy_writes_is_read(compressed: bool, tmp_path: Path) -> None:
    scipy_io: Any = pytest.importorskip("scipy.io")
    cells = np.empty((3, 1), object)
    cells[:, 0] = ["one", np.arange(6.0).reshape(2, 3), np.array([[200]], np.uint8)]
    scipy_io.savemat(
        tmp_path / "a.mat",
        {
            "cells": cells,
            "pose": np.array([[0.5, 1, 2]], np.float32),
            "text": "naïve",
            "record": {"x": 1},
            "z": np.array([1j]),
        },
        do_compression=compressed,
    )
    found = read_mat(tmp_path / "a.mat", ("cells", "pose", "text", "record", "z"))
    assert found["text"] == "naïve"
    assert found["cells"][0] == "one"
    np.testing.assert_array_equal(found["cells"][1], np.arange(6.0).reshape(2, 3))
    np.testing.assert_array_equal(found["pose"], [[0.5, 1, 2]])
    assert found["record"] is None
    assert found["z"] is None


def test_a_missing_variable_or_file_is_named(tmp_path: Path) -> None:
    path = write_mat(tmp_path / "a.mat", {"x": np.ones((1, 1))})
    with pytest.raises(InputError, match=r"a\.mat has no variable y"):
        read_mat(path, ("x", "y"))
    with pytest.raises(InputError, match=r"cannot read .*b\.mat"):
        read_mat(tmp_path / "b.mat", ("x",))


@pytest.mark.parametrize("version", [0x0200, 0x0000])
def test_other_versions_are_refused(version: int, tmp_path: Path) -> None:
    """7.3 is another format altogether, HDF5."""
    with pytest.raises(InputError, match=r"no MATLAB file of version 5"):
        read_mat(write_mat(tmp_path / "a.mat", {"x": np.ones((2, 2))}, version=version), ("x",))


@given(cut=st.integers(0, 400), seed=st.integers(0, 1 << 32), compressed=st.booleans())
@same_folder
def test_damage_is_one_sentence(cut: int, seed: int, compressed: bool, tmp_path: Path) -> None:
    """Bytes are changed, or the end is missing: either all variables are read, or the error is ours."""
    path = write_mat(tmp_path / "a.mat", {"nested": NESTED, "x": np.eye(3)}, compressed=compressed)
    data = bytearray(path.read_bytes())
    rng = np.random.default_rng(seed)
    for place in rng.integers(0, len(data), 3):
        data[place] = rng.integers(0, 256)
    path.write_bytes(data[: len(data) - cut])
    try:
        assert set(read_mat(path, ("nested", "x"))) == {"nested", "x"}
    except InputError as error:
        assert "\n" not in str(error)


def header(body: bytes) -> bytes:
    return b"MATLAB 5.0".ljust(124) + struct.pack("<H", 0x0100) + b"IM" + body


def flags(number: int, *shape: int) -> bytes:
    return element(6, struct.pack("<II", number, 0)) + element(5, struct.pack(f"<{len(shape)}i", *shape))


@pytest.mark.parametrize(
    "body",
    [
        # The unpacked size is 60 MB in 60 KB.
        element(15, zlib.compress(struct.pack("<II", 14, 60 << 20) + b"\0" * (60 << 20))),
        # A matrix of 2^62 numbers that are not there; one of a negative size.
        element(14, flags(6, 1 << 30, 1 << 30) + element(1, b"x") + element(9, b"\0" * 8)),
        element(14, flags(6, -1, -1) + element(1, b"x") + element(9, b"\0" * 8)),
        # An element longer than the file, and one of an unknown type.
        struct.pack("<II", 14, 0xFFFFFFF0) + b"\0" * 64,
        element(14, flags(6, 1, 1) + element(1, b"x") + element(8, b"\0" * 8)),
        # Cells in cells in cells.
        b"",
    ],
    ids=["bomb", "huge", "negative", "long", "type", "deep"],
)
def test_sizes_in_the_file_are_not_believed(body: bytes, tmp_path: Path) -> None:
    if not body:
        deep: Any = np.ones((1, 1))
        for _ in range(50):
            deep = [deep]
        body = matrix(deep, "x")
    path = tmp_path / "a.mat"
    path.write_bytes(header(body))
    with pytest.raises(InputError, match=r"damaged|no variable"):
        read_mat(path, ("x",))


def test_the_official_lists_are_read_as_scipy_reads_them(assets: Path) -> None:
    scipy_io: Any = pytest.importorskip("scipy.io")
    path = assets / "images" / "wider_face" / "gt" / "wider_hard_val.mat"
    own, theirs = read_mat(path, ("event_list", "file_list", "gt_list")), scipy_io.loadmat(path)
    assert own["event_list"] == [str(v[0]) for v in theirs["event_list"][:, 0]]
    for event, names in enumerate(own["file_list"]):
        assert names == [str(v[0]) for v in theirs["file_list"][event, 0][:, 0]]
        for mine, his in zip(own["gt_list"][event], theirs["gt_list"][event, 0][:, 0], strict=True):
            np.testing.assert_array_equal(mine, his)
