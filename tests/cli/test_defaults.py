"""Defaults of options: command line, then environment, then facedeploy.toml, then what the program says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from facedeploy.benchmarks.record_file import write_record
from facedeploy.cli.app import OPTIONS
from facedeploy.cli.defaults import FILE, Option, read_defaults, variables
from facedeploy.core.errors import InputError
from tests.cli.test_cli import Run, run  # noqa: F401  # The fixture.
from tests.cli.test_readme import ROOT
from tests.support.records import make_record

SOURCES = {
    "command line": ("--target", "line-fp32"),
    "one command": ("FACEDEPLOY_EXPORT_TARGET", "one-fp32"),
    "all commands": ("FACEDEPLOY_TARGET", "all-fp32"),
    "table": ("[export]\ntarget", "table-fp32"),
    "top": ("target", "top-fp32"),
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("first", range(len(SOURCES)))
def test_the_nearest_source_counts(run: Run, monkeypatch: pytest.MonkeyPatch, first: int) -> None:  # noqa: F811
    """A target that does not exist is named in the refusal: whichever was taken."""
    words: list[str] = []
    lines: list[str] = []
    for where, (name, value) in list(SOURCES.items())[first:]:
        if where == "command line":
            words += [name, value]
        elif name.startswith("FACEDEPLOY"):
            monkeypatch.setenv(name, value)
        else:
            lines.insert(0, f'{name} = "{value}"')
    FILE.write_text("\n".join(lines))
    run("export", *words).refused(repr(list(SOURCES.values())[first][1]))


def test_nothing_is_set_by_nothing(run: Run) -> None:  # noqa: F811
    assert "Missing option" in run("export").err


@pytest.mark.parametrize("command", OPTIONS)
def test_every_option_of_every_command_can_be_set(command: str, folder: Path) -> None:
    """The names that help shows are those of the file and of the environment."""
    options = OPTIONS[command]
    assert {"quiet", "verbose"} <= set(options)
    assert not set(options) & set(OPTIONS), "a key of the file would be a command and an option"
    for name, option in options.items():
        value = "true" if option.flag else '"7"'
        for text in (f"[{command}]\n{name} = {value}", f"{name.replace('-', '_')} = {value}"):
            FILE.write_text(text)
            want = True if option.flag else ["7"] if option.repeatable else "7"
            assert read_defaults(FILE, OPTIONS)[command] == {option.parameter: want}
        upper = name.upper().replace("-", "_")
        assert variables(command, name) == [f"FACEDEPLOY_{command.upper()}_{upper}", f"FACEDEPLOY_{upper}"]


def test_values_of_every_kind_arrive(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    for name in ("a.json", "b.json"):
        write_record(make_record(), folder / name)
    FILE.write_text("json = true")
    assert run("compare", "a.json", "b.json").out.startswith('{"version": 1')
    monkeypatch.setenv("FACEDEPLOY_JSON", "false")
    assert not run("compare", "a.json", "b.json").out.startswith("{")
    monkeypatch.delenv("FACEDEPLOY_JSON")
    FILE.write_text('[detect]\noption = ["nose=1", "mouth"]\nthreads = 2\n')
    run("detect", "absent", "p.png").refused("KEY=VALUE", "'mouth'")
    monkeypatch.setenv("FACEDEPLOY_OPTION", "a=1 ear")
    run("detect", "absent", "p.png").refused("KEY=VALUE", "'ear'")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tagret = 'x'", ("facedeploy.toml: tagret is neither a command nor an option", "is target meant?")),
        ("[export]\ntagret = 'x'", ("facedeploy.toml: export.tagret is no option of export", "is target meant?")),
        ("[export]\nimages = 'x'", ("facedeploy.toml: export.images is no option of export",)),
        ("[exprot]\ntarget = 'x'", ("facedeploy.toml: exprot is neither", "is export meant?")),
        ("export = 'x'", ("facedeploy.toml: export is a command", "[export]")),
        ("json = 'yes'", ("facedeploy.toml: json must be true or false, not 'yes'",)),
        ("[export]\ncount = [1, 2]", ("facedeploy.toml: export.count must be a text or a number, not [1, 2]",)),
        ("[detect]\noption = [true]", ("facedeploy.toml: detect.option must be a text or a number or a list",)),
        ("[detect]\nthreads = -1", ("facedeploy.toml: threads of detect is '-1': ")),
        ("[detect]\nthreads = 'many'", ("facedeploy.toml: threads of detect is 'many': ")),
        ("target", ("facedeploy.toml", "TOML")),
    ],
)
def test_a_wrong_file_is_named_with_its_key(run: Run, text: str, words: tuple[str, ...]) -> None:  # noqa: F811
    FILE.write_text(text)
    run("detect", "absent", "p.png").refused(*words)


def test_a_wrong_variable_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setenv("FACEDEPLOY_THREADS", "many")
    run("detect", "absent", "p.png").refused("FACEDEPLOY_THREADS is 'many': ")
    monkeypatch.setenv("FACEDEPLOY_DETECT_THREADS", "-1")
    run("detect", "absent", "p.png").refused("FACEDEPLOY_DETECT_THREADS is '-1': ")
    run("detect", "absent", "p.png", "--threads", "1").refused("p.png")


def test_a_file_elsewhere_is_not_read(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    FILE.write_text("nonsense = 1")
    (folder / "below").mkdir()
    monkeypatch.chdir(folder / "below")
    run("detect", "absent", "p.png").refused("there is no file or folder p.png")


def test_two_commands_may_take_one_key_each_in_its_kind() -> None:
    known = {"one": {"x": Option("x", False, True)}, "two": {"x": Option("x_", False, False)}}
    FILE.write_text("x = 'a'")
    assert read_defaults(FILE, known) == {"one": {"x": ["a"]}, "two": {"x_": "a"}}
    FILE.write_text("x = ['a', 'b']")
    with pytest.raises(InputError, match="x must be a text or a number, not"):
        read_defaults(FILE, known)


def test_the_example_of_the_page_is_one(folder: Path) -> None:
    page = (ROOT / "docs" / "reference" / "defaults.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```toml\n(.*?)```", page, flags=re.DOTALL)
    FILE.write_text(example)
    defaults = read_defaults(FILE, OPTIONS)
    assert defaults["export"]["target"] == "ncnn-fp16"
    assert defaults["detect"]["threads"] == "2"
    assert defaults["benchmark"]["threads"] == "4"
    for variable in re.findall(r"FACEDEPLOY_[A-Z_]+", page):
        names = {v for command, options in OPTIONS.items() for option in options for v in variables(command, option)}
        assert variable in names, variable
