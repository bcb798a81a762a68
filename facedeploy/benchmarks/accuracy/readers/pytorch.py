"""Pictures without labels, on which the answers of PyTorch are the truth."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from facedeploy.benchmarks.accuracy.tasks import Reference, Task
from facedeploy.benchmarks.accuracy.torch_parity import TorchParity
from facedeploy.core.images import PICTURES, expand
from facedeploy.metrics.labelled_images import LabelledImage, check_pictures, no_boxes


def read_pytorch(path: Path, options: Mapping[str, str]) -> tuple[tuple[LabelledImage, ...], Task]:
    """Read pictures without labels, on which the answers of PyTorch are the truth.

    Args:
        path: A folder of pictures, or one picture.
        options: weights and factory of the artifacts' model, as for `facedeploy verify`; none for the embedded weights.

    Returns:
        The pictures, and what is measured on them.

    Raises:
        InputError: there is no such folder, or no picture in it.
    """
    files = [f for f in expand([path]) if f.suffix.lower() in PICTURES]
    home = path if path.is_dir() else path.parent
    pictures = [LabelledImage(f, f.relative_to(home).as_posix(), no_boxes()) for f in files]
    weights = Path(options["weights"]) if "weights" in options else None
    task = TorchParity(reference=Reference(weights, options.get("factory")))
    return check_pictures(pictures, path, "give a folder of pictures"), task
