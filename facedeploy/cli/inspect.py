"""`facedeploy inspect`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from facedeploy.cli.output import (
    Config,
    Family,
    Json,
    complain,
    kilobytes,
    note,
    parse_size,
    print_json,
    print_table,
    step,
)

if TYPE_CHECKING:
    from facedeploy.artifact.folder import Artifact
    from facedeploy.export.inspection import Inspection

_SIZES = {
    "file": "as the file says",
    "caller": "as --input-size says, as the file leaves it open",
    "settings": "as the TOML file says, as the file leaves it open",
    "nobody": "chosen here, as the file leaves it open: --input-size says otherwise",
}


def command(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE", help="An ONNX file, package.module:callable, or an artifact.", show_default=False
        ),
    ],
    weights: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Checkpoint of a callable.", show_default=False)
    ] = None,
    input_size: Annotated[
        str | None,
        typer.Option(
            metavar="HEIGHTxWIDTH", help="Of a network that leaves its size open. Default: 640x640, or what runs."
        ),
    ] = None,
    config: Config = None,
    family: Family = None,
    write: Annotated[
        Path | None,
        typer.Option(metavar="FILE.toml", help="Write the TOML file that describes it.", show_default=False),
    ] = None,
    json: Json = False,
) -> None:
    """Say what a network is: inputs, outputs, size, family, and which backend takes it."""
    from facedeploy.artifact.folder import Artifact
    from facedeploy.core.serialization import to_plain
    from facedeploy.export.inspection import inspect

    if Path(file).is_dir() and write is None:
        facts = _facts(Artifact.open(file))
        if json:
            print_json(facts)
        else:
            print("\n".join(f"{key}: {value}" for key, value in facts.items() if value))
        return
    found = inspect(
        file,
        weights,
        input_size=parse_size(input_size),
        config=config,
        family=family,
        write=write,
        progress=step,
    )
    if json:
        print_json(to_plain(found))
    else:
        _print(found)
    if found.written:
        note(f"{found.written}: written; `facedeploy export` reads it where it lies beside the file, or with --config")
    if found.refused:
        complain(f"facedeploy: {found.refused}")
        raise typer.Exit(2)


def _facts(artifact: Artifact) -> dict[str, Any]:
    manifest = artifact.manifest
    inputs = [f"{t.name} {t.shape}" for n in manifest.networks for t in n.spec.inputs]
    return {
        "artifact": str(artifact.path),
        "model": manifest.model,
        "target": str(manifest.target),
        "pipeline": manifest.pipeline.family,
        "family": manifest.settings.get("family") or "",
        "recognised": manifest.recognised,
        "inputs": ", ".join(inputs),
        "size": kilobytes(artifact.size),
    }


def _print(found: Inspection) -> None:
    if found.file is None:
        print(f"{found.name}: a callable that makes a network")
    else:
        quantised = f"quantised ({', '.join(found.file.quantised)})" if found.file.quantised else "not quantised"
        by = found.file.producer
        print(f"{found.name}: ONNX of opset {found.file.opset}{', by ' if by else ''}{by}, {quantised}")
    _print_tensors(found)
    if found.size is not None:
        print("size: {}x{}, {}".format(*found.size, _SIZES[found.size_from]))
    for line in found.notes:
        print(f"note: {line}")
    if found.work is not None:
        print(f"parameters: {found.work.parameters:,}; MACs: {found.work.macs / 1e6:,.1f} million")
    if found.file is not None:
        print(f"operators: {', '.join(f'{op} {count}' for op, count in found.file.operators.items())}")
    print("".join(f"{line}\n" for line in _backends(found)), end="")
    if found.network is not None:
        print("\n".join(_meaning(found)))


def _print_tensors(found: Inspection) -> None:
    """As the file declares them, and as they are at the size."""
    network = found.network
    really = {} if network is None else {t.name: t.shape for t in (*network.inputs, *network.outputs)}
    kinds = (("input", found.file.inputs), ("output", found.file.outputs)) if found.file else ()
    if network is not None and not kinds:
        kinds = (("input", network.inputs), ("output", network.outputs))
    print_table(
        ("", "name", "type", "declared", "really"),
        [
            (kind, t.name, t.dtype, _shape(t.shape), _shape(really[t.name]) if t.name in really else "-")
            for kind, tensors in kinds
            for t in tensors
        ],
    )


def _shape(shape: tuple[int | str, ...]) -> str:
    return f"({', '.join(map(str, shape))})"


def _backends(found: Inspection) -> Iterator[str]:
    if takes := [a.backend for a in found.backends if a.takes]:
        yield f"taken by: {', '.join(takes)}"
    for answer in found.backends:
        if answer.takes is None:
            yield f"{answer.backend}: not asked: {answer.reason}"
        elif not answer.takes:
            lacks = f"it does not take {', '.join(answer.operators)}" if answer.operators else answer.reason
            yield f"not by {answer.backend}: {lacks}{f'; {answer.advice}' if answer.advice else ''}"


def _meaning(found: Inspection) -> Iterator[str]:
    family = found.settings.family if found.settings else None
    chosen = any(fit.family == family and not fit.problem for fit in found.fits)
    for fit in dict.fromkeys(found.fits):
        if fit.problem and not (chosen and fit.family == family):
            yield f"{fit.family or 'its settings'}: the outputs fit ({fit.reason}), but {fit.problem}"
    if found.kind in ("detector", "looks"):
        yield f"family: {family}: {found.reason}" if family else f"described: {found.reason}"
    elif found.kind == "doubt":
        yield f"family: {' or '.join(found.families)}: {found.reason}: --family decides"
    elif found.kind == "behind":
        yield f"family: none; it seems to look at a face that another network found: {found.reason}"
    else:
        yield "family: none that is known: describe its head under [decode] in a TOML file"
