"""The digest of a folder: names and contents count, and nothing else."""

from __future__ import annotations

from pathlib import Path

from facedeploy.core.hashing import code_digest, sha256_of_folder


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_names_and_contents_count(tmp_path: Path) -> None:
    first = sha256_of_folder(write(tmp_path / "a", x_py="1", y__z_py="2"))
    assert sha256_of_folder(write(tmp_path / "b", y__z_py="2", x_py="1")) == first
    others = [
        sha256_of_folder(write(tmp_path / "c", x_py="1", y__z_py="3")),
        sha256_of_folder(write(tmp_path / "d", x_py="1", z__z_py="2")),
        sha256_of_folder(write(tmp_path / "e", x_py="12", y__z_py="")),
    ]
    assert len({first, *others}) == 4


def test_what_is_left_out(tmp_path: Path) -> None:
    first = sha256_of_folder(write(tmp_path / "a", x_py="1"))
    more = write(tmp_path / "b", x_py="1", y__z_py="2", x_pyc="3")
    assert sha256_of_folder(more, without=["y"]) == sha256_of_folder(more, ["*.py"]) == first
    assert sha256_of_folder(more) != first


def test_the_scope_of_the_code_counts() -> None:
    scopes = [code_digest(), code_digest(("core/*.py",)), code_digest(without=("core",))]
    assert len(set(scopes)) == 3
