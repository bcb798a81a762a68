"""`facedeploy models`."""

from __future__ import annotations

from facedeploy.cli.output import Json, note, print_json, print_table


def command(json: Json = False) -> None:
    """List what can be deployed, its size, and where its weights come from."""
    from facedeploy.core.errors import BackendUnavailableError
    from facedeploy.core.serialization import to_plain
    from facedeploy.models.model_size import measure
    from facedeploy.models.registry import MODELS

    for model in MODELS.values():
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
