"""What the folder says of itself."""

from __future__ import annotations

from collections.abc import Sequence

from facedeploy.artifact.manifest import Manifest
from facedeploy.core.terms import TERMS_FILE
from facedeploy.package.triton.config import Config, Tensor

_START = """
```sh
tritonserver --model-repository=.
```
"""
_PIPELINE = """\
`{name}` takes a picture and gives faces. A request has one of two inputs: `picture`, BGR, or `encoded`, the bytes of a
JPEG or PNG file. Boxes and points are pixels of the picture. `pose` is yaw, pitch and roll in degrees. `faces` is all
of it as JSON. What the model does not give has no points, and angles of NaN.

It runs in Triton's Python backend. The server's Python needs facedeploy {version} or later with the extra `{extras}`;
up to Triton 24.11 also NumPy below 2, with which alone its backend works.

Its config.pbtxt has parameters: `threads`, 0 for every core; `options` of the pipeline as JSON, such as
{{\\"score_threshold\\": 0.6}}.
"""


def readme(manifest: Manifest, pipeline: Config | None, networks: Sequence[Config], extras: Sequence[str]) -> str:
    """README.md of a model repository.

    Args:
        manifest: Of the artifact.
        pipeline: The model that gives faces; None where nothing does.
        networks: The models that are networks.
        extras: Of this package, that the pipeline needs.
    """
    said = f"Exported for {manifest.target}. What the weights may be used for is in {TERMS_FILE}."
    lines = [f"# {manifest.model} for Triton Inference Server", "", said, _START]
    if pipeline is not None:
        version = manifest.tools.get("facedeploy", "")
        lines.append(_PIPELINE.format(name=pipeline.name, version=version, extras=",".join(extras)))
    lines += ["| model | backend | inputs | outputs |", "|---|---|---|---|"]
    for config in (*([pipeline] if pipeline else []), *networks):
        batch = f" (up to {config.max_batch} at once)" if config.max_batch else ""
        cells = (f"`{config.name}`", f"{config.backend}{batch}", _shown(config.inputs), _shown(config.outputs))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _shown(tensors: Sequence[Tensor]) -> str:
    return ", ".join(f"`{t.name}` {t.dtype} {list(t.dims)}" for t in tensors)
