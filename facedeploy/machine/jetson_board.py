"""What a Jetson says that it is: read from its files, without privileges and without tools.

Every function takes the root of the file system. Whatever cannot be read is None; nothing here raises.
docs/reference/jetson.md says where each fact comes from, and which ones nobody has confirmed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from facedeploy.machine.records import Board
from facedeploy.machine.sysfs import plain_name, text

ROOT = Path("/")

# Jetson Linux -> JetPack: developer.nvidia.com/embedded/jetpack-archive, as jetson_stats tabulates it.
JETPACK = {
    **{"35.1.0": "5.0.2", "35.2.1": "5.1", "35.3.1": "5.1.1", "35.4.1": "5.1.2", "35.5.0": "5.1.3", "35.6.0": "5.1.4"},
    **{"35.6.1": "5.1.5", "35.6.2": "5.1.5", "35.6.3": "5.1.5", "35.6.4": "5.1.6"},
    **{"36.3.0": "6.0", "36.4.0": "6.1", "36.4.3": "6.2", "36.4.4": "6.2.1", "36.4.7": "6.2.1", "36.5.0": "6.2.2"},
    **{"38.2.0": "7.0", "38.2.1": "7.0", "38.2.2": "7.0", "38.4.0": "7.1", "39.2.0": "7.2"},
}
_TREES = ("proc/device-tree", "sys/firmware/devicetree/base")
_CONFIGURATION = "etc/nvpmodel.conf"
_MODEL_LENGTH, _MODES, _ALL_CORES = 80, 64, 99


def is_jetson(root: Path = ROOT) -> bool:
    """Whether the device tree, or the release file of Jetson Linux, says so."""
    return any(entry.startswith("nvidia,tegra") for entry in _compatible(root)) or _l4t(root) is not None


def read_board(root: Path = ROOT) -> Board | None:
    """The board; None where it is no Jetson."""
    if not is_jetson(root):
        return None
    entries = _compatible(root)
    l4t = _l4t(root)
    jetpack = f" (JetPack {JETPACK[l4t]})" if l4t in JETPACK else ""
    modes = read_modes(root)
    return Board(
        model=plain_name(_tree(root, "model"), _MODEL_LENGTH),
        module=_entry(entries, r"p[0-9]{4}-[0-9]{4}"),
        soc=_entry(entries, r"tegra[0-9a-z]{1,8}"),
        release=f"L4T {l4t}{jetpack}" if l4t else None,
        mode=modes.get(_mode(root)),
        highest=highest_mode(modes),
    )


def read_modes(root: Path = ROOT) -> Mapping[int, str]:
    """The power modes that /etc/nvpmodel.conf offers, by their numbers."""
    found = {}
    headers = re.findall(
        r"^[ \t]*<[ \t]*POWER_MODEL\b([^<>\n]{1,200})>", text(root / _CONFIGURATION) or "", re.MULTILINE
    )
    for header in headers[:_MODES]:
        number, name = re.search(r"\bID=([0-9]{1,6})\b", header), re.search(r"\bNAME=([A-Za-z0-9_.-]{1,48})", header)
        if number and name:
            found[int(number[1])] = name[1]
    return found


def highest_mode(modes: Mapping[int, str]) -> str | None:
    """The mode that allows most; None where the names do not say.

    The numbers say nothing: on an Orin Nano Super, 15W is 0, 25W is 1, MAXN_SUPER is 2 and 7W is 3. MAXN has no cap.
    """
    best = max(modes.values(), key=_rank, default=None)
    return best if best is not None and any(_rank(best)[:3]) else None


def _rank(name: str) -> tuple[bool, bool, int, int]:
    upper = name.upper()
    watts, cores = re.search(r"([0-9]{1,4})W", upper), re.search(r"([0-9]{1,3})CORE", upper)
    return ("MAXN" in upper, "SUPER" in upper, int(watts[1]) if watts else 0, int(cores[1]) if cores else _ALL_CORES)


def _mode(root: Path) -> int:
    """Number of the mode: what nvpmodel last set, or else what it sets at boot; -1 where neither is known."""
    status = re.search(r"\bpmode:[ \t]*([0-9]{1,6})\b", text(root / "var/lib/nvpmodel/status") or "")
    if status is None:
        default = r"^[ \t]*<[ \t]*PM_CONFIG[ \t]+DEFAULT=([0-9]{1,6})\b"
        status = re.search(default, text(root / _CONFIGURATION) or "", re.MULTILINE)
    return int(status[1]) if status else -1


def _l4t(root: Path) -> str | None:
    """As "36.4.3": its first line is "# R36 (release), REVISION: 4.3, ..."."""
    said = text(root / "etc/nv_tegra_release") or ""
    found = re.match(r"# R([0-9]{1,3}) \(release\), REVISION: ([0-9]{1,3}(?:\.[0-9]{1,3}){0,2})\b", said)
    return f"{found[1]}.{found[2]}" if found else None


def _compatible(root: Path) -> list[str]:
    return (_tree(root, "compatible") or "").split("\0")


def _entry(entries: list[str], pattern: str) -> str | None:
    return next((found[1] for e in entries if (found := re.fullmatch(rf"nvidia,({pattern})(?:-super)?", e))), None)


def _tree(root: Path, name: str) -> str | None:
    return next((said for folder in _TREES if (said := text(root / folder / name))), None)
