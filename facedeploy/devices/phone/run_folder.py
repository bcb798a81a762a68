"""What lies in the folder of a run on a phone: names for files that are kept there by what is in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from facedeploy import pipelines
from facedeploy.artifact.folder import Artifact
from facedeploy.core.errors import InputError
from facedeploy.core.images import read_picture
from facedeploy.devices.connection import Device
from facedeploy.devices.file_store import Content, enter
from facedeploy.devices.phone.device_lock import RUN
from facedeploy.devices.phone.runner_protocol import Picture
from facedeploy.devices.shell import talk
from facedeploy.formats.ncnn.shared_weights import unshared
from facedeploy.package.constants import constants
from facedeploy.package.model_text import NAME, model_text

RUNNER = "runner"
# Links, for some phones refuse hard ones to who is not root. Lines of a digest and a path.
_LAY_OUT = """cd {run}
while read -r s p; do
  o="$d/objects/$s"; t=$(sha256sum "$o") || t=
  [ "${{t%% *}}" = "$s" ] || {{
    rm -f "$o"; echo "a file that was kept on the device is lost or damaged: run the command again" >&2; exit 3
  }}
  touch "$o"
  case $p in */*) mkdir -p "${{p%/*}}";; esac
  ln -s "$o" "$p"
done
chmod 700 {runner}"""
_MOST = 1 << 16
_LARGEST = 65535  # Pixels of a side, as the C++ library has it.

Files = dict[str, Content]


def artifact_files(artifact: Artifact, options: Mapping[str, Any], folder: str) -> Files:
    """Files of an artifact by their paths on the phone: model.txt, and each network's with weights of its own, as
    `runtimes.ncnn` loads them.

    Raises:
        InputError: the C++ library has not the family or the protocol, or it is a chain.
    """
    if artifact.parts:
        msg = f"{artifact.path} is a chain, which the runner does not run: take its detector alone"
        raise InputError(msg)
    manifest = artifact.manifest
    entry = pipelines.configure(manifest.pipeline.family, options, manifest.pipeline.config)
    known = constants([n.spec for n in manifest.networks], entry)
    files = {f"{folder}/{NAME}": Content.of(model_text(replace(manifest, pipeline=entry), known).encode())}
    for network in manifest.networks:
        ours = [artifact.file(network.spec.name, role) for role in ("param", "bin")]
        with unshared(ours[0], ours[1]) as found:
            for role, mine, file in zip(("param", "bin"), ours, found, strict=True):
                path = f"{folder}/{network.files[role].path}"
                files[path] = Content.of(file if file == mine else file.read_bytes())
    return files


def picture_files(sources: Sequence[Path], work: Path) -> Iterator[tuple[Picture, Content]]:
    """Pictures as the pixels that this machine decodes, in files below `work`: the phone has no decoder of ours.

    Raises:
        InputError: one cannot be read, or is too large.
    """
    for i, source in enumerate(sources):
        pixels = np.ascontiguousarray(read_picture(source))
        height, width = pixels.shape[:2]
        if max(height, width) > _LARGEST:
            msg = f"{source} is {height}x{width} pixels: on a phone no side may be longer than {_LARGEST}"
            raise InputError(msg)
        raw = work / str(i)
        pixels.tofile(raw)
        yield Picture(height, width, f"pictures/{i}"), Content.of(raw)


def lay_out(device: Device, files: Files) -> None:
    """Give kept files their names in the folder of the run.

    Raises:
        DeviceError: one is damaged, or the connection failed.
    """
    lines = "".join(f"{content.sha256} {path}\n" for path, content in files.items()).encode()
    script = enter(device) + _LAY_OUT.format(run=RUN, runner=RUNNER)
    for _ in talk(device, script, "laying its files out", most=_MOST, send=[lines]):
        pass
