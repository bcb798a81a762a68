"""Run the cells of a notebook as Jupyter does: one namespace, and the last expression of a cell is shown.

python run_notebook.py NOTEBOOK

A value that shows itself as a picture is written to the current folder, as out-N.png for the cell N; any other is
printed.
"""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path


def main() -> None:
    names: dict[str, object] = {"__name__": "__main__"}
    cells = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["cells"]
    for number, cell in enumerate(cells, 1):
        if cell["cell_type"] != "code":
            continue
        tree = ast.parse("".join(cell["source"]), f"cell {number}")
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, f"cell {number}", "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), names)
            picture = getattr(value, "_repr_png_", None)
            if picture is not None:
                Path(f"out-{number}.png").write_bytes(picture())
            elif value is not None:
                print(f"Out[{number}]: {value!r}")


if __name__ == "__main__":
    main()
