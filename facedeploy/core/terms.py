"""What weights may be used for. Their terms are not those of this package, and travel with them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

# Stands beside weights, in the package and in what is made of them.
TERMS_FILE = "WEIGHTS-LICENCE.txt"

Products = Literal["allowed", "not allowed", "not stated"]


@dataclass(frozen=True)
class Terms:
    """What whoever made some weights says of their use. It is quoted here, and is no advice.

    Attributes:
        licence: As they state it, such as "MIT".
        products: Whether that lets products use the weights.
        weights: Where they come from.
    """

    licence: str
    products: Products = "not stated"
    weights: str = ""

    @property
    def caution(self) -> str:
        """A sentence for who makes a product; empty where products are allowed."""
        if self.products == "allowed":
            return ""
        if self.products == "not allowed":
            return f"the weights are not for products (licence: {self.licence})"
        return f"ask those who made the weights before a product uses them (licence: {self.licence})"


def terms_text(rows: Iterable[tuple[str, Terms | None]]) -> str:
    """The text of a file that stands beside weights. rows: what has them, and their terms where these are known."""
    lines = [
        "The weights that are here have terms of their own. They are not under the licence of facedeploy's code,",
        "Apache-2.0. What stands below is what those who made the weights say.",
    ]
    for name, terms in rows:
        lines += ["", _line(name)]
        if terms is None:
            lines.append("  nothing is known of their terms: ask whoever made the network")
            continue
        lines += [f"  licence:  {_line(terms.licence)}", f"  products: {terms.products}"]
        lines += [f"  from:     {_line(terms.weights)}"] if terms.weights else []
    return "\n".join(lines) + "\n"


def _line(text: str) -> str:
    return " ".join(text.split())
