"""A chain: a detector and networks that look at its faces, whole artifacts side by side in one folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from facedeploy.artifact.manifest import Manifest, NetworkEntry, PipelineEntry, SourceFile
from facedeploy.core.serialization import to_plain

FORMAT = "facedeploy-chain"
VERSION = 1
FAMILY = "chain"  # Of the pipeline; no manifest on disk says so.
DETECTOR = "detector"  # The folder, and the name, of the part that finds the faces.


@dataclass(frozen=True)
class Chain:
    """What the `manifest.json` of a chain says. Each part has a manifest of its own, with its files and hashes.

    Attributes:
        parts: Folder of each part -> SHA-256 of its manifest. The detector is in `detector`; the others look at the
            faces, in this order.
        format: Always "facedeploy-chain".
        version: Of the format.
    """

    parts: dict[str, str]
    format: str = FORMAT
    version: int = VERSION


def joined(parts: Mapping[str, Manifest]) -> Manifest:
    """One manifest that says what all parts are together, for whoever asks for networks and files.

    Networks and parity are named `part/network`, and files are in the part's folder. Its target is the detector's.

    Args:
        parts: The detector first, by name.
    """
    detector = next(iter(parts.values()))
    return Manifest(
        model="+".join(m.model for m in parts.values()),
        target=detector.target,
        networks=tuple(_inside(name, n) for name, m in parts.items() for n in m.networks),
        pipeline=pipeline_of({name: m.pipeline for name, m in parts.items()}),
        source=tuple(SourceFile(f"{name}/{s.part}", s.name, s.sha256) for name, m in parts.items() for s in m.source),
        tools=detector.tools,
        parity=tuple(replace(row, network=f"{name}/{row.network}") for name, m in parts.items() for row in m.parity),
        calibration=detector.calibration,
        origin=detector.origin,
    )


def pipeline_of(parts: Mapping[str, PipelineEntry]) -> PipelineEntry:
    """The pipeline of a chain, from those of its parts by name, the detector's first."""
    detector, *lookers = parts.items()
    return PipelineEntry(
        FAMILY, {"detector": to_plain(detector[1]), "lookers": {name: to_plain(entry) for name, entry in lookers}}
    )


def _inside(part: str, network: NetworkEntry) -> NetworkEntry:
    spec = replace(network.spec, name=f"{part}/{network.spec.name}")
    files = {role: replace(entry, path=f"{part}/{entry.path}") for role, entry in network.files.items()}
    return replace(network, spec=spec, files=files)
