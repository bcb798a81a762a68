"""A library that is not installed is told before any work, and never after it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from facedeploy.artifact.folder import Artifact
from tests.benchmarks.test_matrix import here  # noqa: F401  # The fixture.
from tests.cli.test_cli import Run, run  # noqa: F401  # The fixture.
from tests.cli.test_readme import ROOT
from tests.support.measured import export_tiny

Hide = Callable[..., None]
FOREVER = ("--seconds", "1000000")


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return export_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def hide(monkeypatch: pytest.MonkeyPatch) -> Hide:
    """Let modules look as if they were not installed."""

    def call(*names: str) -> None:
        for name in names:
            for module in [m for m in sys.modules if m == name or m.startswith(f"{name}.")]:
                monkeypatch.delitem(sys.modules, module)
            monkeypatch.setitem(sys.modules, name, None)

    return call


@pytest.mark.parametrize(
    ("module", "words", "extra"),
    [
        ("jinja2", ("--report", "report"), "report"),
        ("scipy", ("--dataset", "widerface:labels"), "datasets"),
        ("ray", ("--dataset", "csv:labels.csv", "--ray", "local"), "ray"),
    ],
)
def test_a_benchmark_does_not_begin_without_what_it_ends_with(
    run: Run,  # noqa: F811
    hide: Hide,
    artifact: Artifact,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: str,
    words: tuple[str, ...],
    extra: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "examples" / "astronaut.jpg", tmp_path)
    (tmp_path / "labels.csv").write_text("image,x1,y1,x2,y2\nastronaut.jpg,1,1,50,50\n")
    labels = tmp_path / "labels" / "wider_face_split"
    labels.mkdir(parents=True)
    (labels / "wider_face_val.mat").touch()
    hide(module)
    before = set(tmp_path.rglob("*"))
    run("benchmark", artifact.path, *FOREVER, *words).refused(f"{module} is not installed", f"facedeploy[{extra}]")
    assert set(tmp_path.rglob("*")) == before


def test_what_is_installed_is_not_refused(run: Run, artifact: Artifact, tmp_path: Path) -> None:  # noqa: F811
    """The control."""
    pytest.importorskip("jinja2")
    words = ("--rounds", "1", "--no-cold", "--report", tmp_path / "report")
    assert run("benchmark", artifact.path, *words).status == 0
    assert (tmp_path / "report" / "index.html").is_file()


@pytest.mark.parametrize("module", ["jinja2", "openvino", "onnxsim"])
def test_a_matrix_does_not_begin_without_what_a_later_cell_needs(
    run: Run,  # noqa: F811
    hide: Hide,
    here: Path,  # noqa: F811
    module: str,
) -> None:
    hide(module)
    run("matrix", here / "two.toml", "-o", here / "out").refused(f"{module} is not installed")
    assert not (here / "out").exists()
