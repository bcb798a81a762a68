"""What every command has: -q, -v, and defaults of its options from the environment and from facedeploy.toml."""

from __future__ import annotations

import copy
import functools
import inspect
import os
import sys
import typing
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.models import OptionInfo, ParameterInfo

from facedeploy.cli.completion import OFFERED
from facedeploy.cli.defaults import FILE, Option, variables
from facedeploy.cli.output import listen, note
from facedeploy.core.errors import InputError
from facedeploy.core.optional_imports import installed_versions

_QUIET = typer.Option("-q", "--quiet", help="Print the answer and errors, and nothing else.")
_VERBOSE = typer.Option(
    "-v", "--verbose", help="Print what is run, when each step begins, and the traceback of an unexpected error."
)
Function = Callable[..., None]


def _without_types(parameters: list[Any]) -> list[Any]:
    """Help has a word for what a value is, such as DIR: no Python type beside it, and none for what has no value."""
    for parameter in parameters:
        if parameter.param_type_name == "argument":
            parameter.display_type_rich = lambda ctx: None
        elif parameter.metavar is None:
            parameter.metavar = ""
    return parameters


class Group(TyperGroup):
    """The commands."""

    def get_params(self, ctx: Any) -> list[Any]:
        return _without_types(super().get_params(ctx))


class Command(TyperCommand):
    """A command that says where a wrong value came from, if it was not the command line."""

    def get_params(self, ctx: Any) -> list[Any]:
        return _without_types(super().get_params(ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except Exception as error:  # Releases of typer have usage errors of different modules.
            parameter = getattr(error, "param", None)
            if parameter is None or not (where := _origin(ctx, parameter)):
                raise
            value = os.environ.get(where) or (ctx.default_map or {}).get(parameter.name)
            name = max(parameter.opts, key=len).lstrip("-")
            of = "" if where in os.environ else f": {name} of {ctx.info_name}"
            msg = f"{where}{of} is {value!r}: {getattr(error, 'message', error)}"
            raise InputError(msg) from error


def with_common_options(name: str, command: Function) -> tuple[Function, dict[str, Option]]:
    """Give a command -q and -v, and each of its options its environment variables.

    Args:
        name: Of the command.
        command: A function as typer takes it.

    Returns:
        The function to hand to typer, and what facedeploy.toml may say for it.
    """
    hints = typing.get_type_hints(command, include_extras=True)
    taken = inspect.signature(command).parameters.values()
    shown = [p.replace(annotation=_own(hints[p.name], name, p.name)) for p in taken]
    shown += [
        inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context),
        *(
            inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=_own(hint, name, n))
            for n, hint in (("quiet", Annotated[bool, _QUIET]), ("verbose", Annotated[bool, _VERBOSE]))
        ),
    ]

    @functools.wraps(command)
    def with_them(*, context: typer.Context, quiet: bool, verbose: bool, **arguments: Any) -> None:
        if quiet and verbose:
            msg = "-q and -v contradict each other: leave one of them out"
            raise InputError(msg)
        listen(quiet=quiet, verbose=verbose)
        if verbose:
            _explain(context)
        command(**arguments)

    del with_them.__wrapped__  # typer would look at that instead.
    with_them.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
    with_them.__annotations__ = {p.name: p.annotation for p in shown}
    return with_them, {
        _called(p.annotation, p.name): _kind(p) for p in shown if isinstance(_info(p.annotation), OptionInfo)
    }


def _info(hint: Any) -> ParameterInfo | None:
    return next((m for m in getattr(hint, "__metadata__", ()) if isinstance(m, ParameterInfo)), None)


def _own(hint: Any, command: str, parameter: str) -> Any:
    """The hint with an option, or argument, of its own: commands share some."""
    if (shared := _info(hint)) is None:
        return hint
    own = copy.copy(shared)
    own.autocompletion = OFFERED.get(own.metavar or "")
    if isinstance(own, OptionInfo):
        own.envvar, own.show_envvar = variables(command, _called(hint, parameter)), False
    return Annotated[typing.get_args(hint)[0], own]


def _called(hint: Any, parameter: str) -> str:
    """The name of an option, without its dashes."""
    option = _info(hint)
    said = (option.default, *(option.param_decls or ())) if option else ()  # Where it is annotated, the first is there.
    long = [d.partition("/")[0] for d in said if isinstance(d, str) and d.startswith("--")]
    return (long[0].removeprefix("--") if long else parameter.strip("_")).replace("_", "-")


def _kind(parameter: inspect.Parameter) -> Option:
    kind = typing.get_args(parameter.annotation)[0]
    several = any(typing.get_origin(k) is list for k in (kind, *typing.get_args(kind)))
    return Option(parameter.name, kind is bool, several)


def _origin(context: Any, parameter: Any) -> str:
    """Where the value of an option is from; empty where the call or the program says it."""
    source = getattr(context.get_parameter_source(parameter.name), "name", "")
    if source == "DEFAULT_MAP":
        return str(FILE)
    if source == "ENVIRONMENT":
        return next((v for v in parameter.envvar if os.environ.get(v)), "the environment")
    return ""


def _explain(context: typer.Context) -> None:
    """Say what is run: the version, the Python, and what is not default."""
    import platform

    version = installed_versions("facedeploy").get("facedeploy", "(not installed)")
    note(f"facedeploy {version}, Python {platform.python_version()} ({sys.executable})")
    for parameter in context.command.params:
        name = parameter.name or ""
        where = _origin(context, parameter)
        if where or getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE":
            value = context.params.get(name)
            said = " ".join(map(str, value)) if isinstance(value, (list, tuple)) else value
            note(f"  {name.strip('_')}: {said} ({where or 'command line'})")
