"""What the settings in a manifest say that neither the network's family nor the TOML file beside it says."""

from __future__ import annotations

from pathlib import Path

from facedeploy.core.errors import InputError
from facedeploy.core.network_spec import NetworkSpec
from facedeploy.core.plain_differences import Difference, differences
from facedeploy.core.serialization import to_plain
from facedeploy.sources.decoded import candidates
from facedeploy.sources.settings import NetworkSettings, WrittenSettings, read_settings


def unexplained(raw: NetworkSpec, settings: NetworkSettings, beside: Path | None = None) -> tuple[str, ...]:
    """Lines for a person: what is not as the family has it. Whoever exported said so, or it was changed since.

    Args:
        raw: The network, with the shapes of its own outputs.
        settings: What the manifest says of it.
        beside: The TOML file beside the network; None for none.
    """
    have = to_plain(settings)
    explained = [f"the family {settings.family}"] * (settings.family is not None)
    try:
        written = read_settings(beside) if beside else WrittenSettings()
        explained += [str(beside)] * bool(written.plain)
        if not explained:
            return ()
        known = candidates("the network", raw, written, written.family or settings.family)
    except InputError as error:
        return (f"its settings cannot be held against {' and '.join(explained) or beside}: {error}",)
    found = min((differences(to_plain(c.settings), have, "settings") for c in known), key=len, default=[])
    return tuple(_sentence(difference, " and ".join(explained)) for difference in found)


def _sentence(difference: Difference, known: str) -> str:
    return f"{difference.where} is {difference.have} and by {known} {difference.want}: said at export, or changed since"
