"""The folder that goes into an app: headers, constants, the model's files, CMake."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from facedeploy.artifact import Artifact, staged
from facedeploy.errors import InputError
from facedeploy.loading import check_manifest
from facedeploy.package.constants import constants
from facedeploy.package.model_header import model_header

# Of this package in a wheel, and of the checkout otherwise, to which it links.
SOURCES = Path(__file__).with_name("mobile")


def package_cpp(artifact: str | os.PathLike[str], output: str | os.PathLike[str]) -> Path:
    """Write `output`: include/, model/ (model.hpp and ncnn's files), runner/, CMakeLists.txt, README.md.

    Raises:
        ArtifactError: not an artifact, or a damaged one. InputError: not one of ncnn, or of a family or protocol that
            the C++ library has not; or `output` exists and is not an empty folder.
    """
    opened = Artifact.open(artifact)
    manifest = opened.manifest
    check_manifest(opened)
    if manifest.target.backend != "ncnn":
        msg = f"{opened.path} is for {manifest.target}: the C++ library runs ncnn, so export with --target ncnn-fp16"
        raise InputError(msg)
    specs = [n.spec for n in manifest.networks]
    header = model_header(manifest, constants(specs, manifest.pipeline))
    with staged(output) as folder:
        shutil.copytree(SOURCES / "include", folder / "include")
        shutil.copytree(SOURCES / "runner", folder / "runner")
        (folder / "runner" / "CMakeLists.txt").rename(folder / "CMakeLists.txt")
        shutil.copy(SOURCES / "README.md", folder)
        model = folder / "model"
        model.mkdir()
        (model / "model.hpp").write_text(header, encoding="utf-8")
        for network in manifest.networks:
            for role in ("param", "bin"):
                target = model / network.files[role].path
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(opened.file(network.spec.name, role), target)
    return Path(output)
