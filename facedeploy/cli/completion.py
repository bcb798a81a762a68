"""What the shell offers after a Tab. Nothing here imports a backend: a person waits. No answer means: any file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

# Written by `export`, so that a folder with it is an artifact.
_MANIFEST = "manifest.json"


def models(incomplete: str) -> list[str]:
    """Models, and ONNX files of the folder."""
    from facedeploy.models.registry import MODELS

    here = [str(file) for file in Path().glob("*.onnx")]
    return _beginning(incomplete, [*MODELS, *sorted(here)])


def targets(incomplete: str) -> list[str]:
    from facedeploy.core.target import TARGETS

    return _beginning(incomplete, map(str, TARGETS))


def artifacts(incomplete: str) -> list[str]:
    """Folders that hold an artifact, in the folder that is being named."""
    parent = incomplete.rpartition("/")[0]
    try:
        found = sorted(manifest.parent for manifest in Path(parent or ".").glob(f"*/{_MANIFEST}"))
    except OSError:  # One may not look into it.
        return []
    absolute = "/" if incomplete.startswith("/") and not parent else ""
    return _beginning(incomplete, (f"{absolute}{path}" for path in found))


def families(incomplete: str) -> list[str]:
    folder = Path(__file__).parents[1] / "sources" / "families"
    return _beginning(incomplete, sorted(file.stem for file in folder.glob("*.toml")))


def one_of(*words: str) -> Callable[[str], list[str]]:
    def words_beginning(incomplete: str) -> list[str]:
        return _beginning(incomplete, words)

    return words_beginning


def _beginning(incomplete: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


# What help says that a value is -> what the shell offers for it.
OFFERED: Mapping[str, Callable[[str], list[str]]] = {
    "ARTIFACT": artifacts,
    "FAMILY": families,
    "METHOD": one_of("mse", "kl", "percentile", "minmax"),
    "MODEL": models,
    "TARGET": targets,
    "native|gridsample": one_of("native", "gridsample"),
    "onnxruntime": one_of("onnxruntime"),
}
