"""`facedeploy doctor`."""

from __future__ import annotations

from facedeploy.cli.output import JsonLines, print_json, print_table


def command(json: JsonLines = False) -> None:
    """Say which backends work here, and how to get the others."""
    from facedeploy.core.serialization import to_plain
    from facedeploy.runtimes.doctor import diagnose

    rows = diagnose()
    if json:
        for row in rows:
            print_json(to_plain(row))
        return
    print_table(
        ("backend", "export", "run", "versions", "note"),
        [
            (
                r.backend,
                "yes" if r.export else "no",
                "yes" if r.run else "no",
                ", ".join(f"{k} {v}" for k, v in r.versions.items()) or "-",
                r.note,
            )
            for r in rows
        ],
    )
