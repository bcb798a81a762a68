"""`facedeploy models`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from facedeploy.cli.output import JsonLines, kilobytes, note, print_json, print_table, step
from facedeploy.core.errors import InputError


def command(
    model: Annotated[
        str | None, typer.Argument(metavar="MODEL", help="One model. Default: all.", show_default=False)
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="DIR",
            help="Where --fetch puts the weights. Default: the user's cache, where `export` finds them.",
            show_default=False,
        ),
    ] = None,
    fetch: Annotated[
        bool, typer.Option("--fetch", help="Download the weights from where their authors put them, and check them.")
    ] = False,
    json: JsonLines = False,
) -> None:
    """List what can be deployed, its size, where its weights come from and under what terms; --fetch gets them."""
    if fetch:
        _fetch(model, folder, json)
        return
    if folder is not None:
        msg = f"{folder} is for --fetch: `facedeploy models {model} --fetch {folder}`"
        raise InputError(msg)
    _list(model, json)


def note_fetched(model: str, weights: Path | None) -> None:
    """Say that the weights that were fetched are taken, where a command names none."""
    from facedeploy.models.registry import MODELS

    if weights is None and model in MODELS and not MODELS[model].embedded and (folder := MODELS[model].fetched):
        note(f"no --weights: taking those of {model} that were fetched, in {folder}")


def _fetch(name: str | None, folder: Path | None, json: bool) -> None:
    from facedeploy.core.serialization import to_plain
    from facedeploy.models.fetch import fetch, publication_of
    from facedeploy.models.registry import published

    if name is None:
        msg = "--fetch gets the weights of one model: name it, as in `facedeploy models mtcnn --fetch`"
        raise InputError(msg)
    model = published(name)
    publication, terms = publication_of(model), model.terms
    note(f"{name}: weights by {publication.authors}; licence: {terms.licence}; products: {terms.products}")
    note(f"from {publication.page}")
    with _bars() as received:
        done = fetch(model, folder, received=received, progress=step)
    known = {file.name: bool(file.digest) for file in publication.files}
    if json:
        files = [{"name": n, "sha256": digest, "known": known[n]} for n, digest in done.digests.items()]
        facts = {"model": model.id, "folder": str(done.folder), "new": done.new, "authors": publication.authors}
        print_json({**facts, "terms": to_plain(terms), "files": files})
        return
    rows = [
        (n, kilobytes((done.folder / n).stat().st_size), digest, "as known" if known[n] else "not known before")
        for n, digest in done.digests.items()
    ]
    print_table(("file", "size", "SHA-256", ""), rows)
    print(f"{done.folder}: {'fetched and loaded strictly' if done.new else 'here already, as they were fetched'}")
    named = folder is not None or name != model.id
    note(f"next: facedeploy export {model.id} --target TARGET{f' --weights {done.folder}' if named else ''}")
    if terms.caution:
        note(terms.caution)


@contextmanager
def _bars() -> Iterator[Callable[[str, int, int | None], None]]:
    """What shows how much of each file has come: a progress bar on a terminal."""
    from tqdm import tqdm

    bars: dict[str, Any] = {}

    def show(name: str, received: int, total: int | None) -> None:
        if name not in bars:
            hidden = not sys.stderr.isatty()
            bars[name] = tqdm(total=total, desc=name, unit="B", unit_scale=True, file=sys.stderr, disable=hidden)
        bars[name].update(received - bars[name].n)

    try:
        yield show
    finally:
        for bar in bars.values():
            bar.close()


def _list(name: str | None, json: bool) -> None:
    from facedeploy.core.errors import BackendUnavailableError
    from facedeploy.core.serialization import to_plain
    from facedeploy.models.model_size import measure
    from facedeploy.models.registry import MODELS, get

    for model in MODELS.values() if name is None else (get(name),):
        try:
            rows = measure(model)
        except BackendUnavailableError as error:
            note(f"sizes are counted on the PyTorch modules: {error}")
            rows = ()
        if json:
            facts = {"id": model.id, "title": model.title, **to_plain(model.terms)}
            print_json({**facts, "networks": to_plain(rows)})
            continue
        print(f"{model.id}  {model.title}")
        terms = model.terms
        print(f"  weights: {terms.weights}; licence: {terms.licence}; products: {terms.products}")
        if rows:
            table = [
                (
                    f"  {r.network}",
                    f"{r.parameters:,}",
                    f"{r.size / 1e6:,.1f}",
                    "x".join(map(str, r.shape)),
                    f"{r.macs / 1e6:,.1f}",
                )
                for r in rows
            ]
            print_table(("  network", "parameters", "fp32 MB", "input", "million MACs"), table)
