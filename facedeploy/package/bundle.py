"""The folder that goes into an app: sources, the model's constants and files, and what builds them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from facedeploy.artifact.chain import joined
from facedeploy.artifact.folder import Artifact, staged
from facedeploy.artifact.manifest import Manifest
from facedeploy.core.errors import ArtifactError, InputError
from facedeploy.core.terms import TERMS_FILE
from facedeploy.models.terms import terms_file
from facedeploy.package.constants import BoxesConstants, MosConstants
from facedeploy.package.crop_constants import AnyConstants, described
from facedeploy.package.embedded import embedded_header, embedded_source
from facedeploy.package.model_header import model_header
from facedeploy.package.model_text import NAME, model_text
from facedeploy.package.stripped import strip
from facedeploy.pipelines import looks
from facedeploy.pipelines.load import check_manifest

# Of this package in a wheel, and of the checkout otherwise, to which it links.
SOURCES = Path(__file__).with_name("mobile")
_CMAKE = "CMakeLists.txt"


@dataclass(frozen=True)
class Model:
    """What a folder gets of an artifact.

    Attributes:
        manifest: Of the artifact.
        constants: What the C++ library must know of the model.
        params: Network -> content of its .param.
        weights: Network -> content of its .bin.
        embedded: Whether the networks are written as C++ too.
        terms: What the weights may be used for, as the text of a file.
    """

    manifest: Manifest
    constants: AnyConstants
    params: dict[str, str]
    weights: dict[str, bytes]
    embedded: bool
    terms: str

    def code(self) -> dict[str, bytes]:
        """C++, by the names of the files."""
        code = {"model.hpp": model_header(self.manifest, self.constants)}
        if self.embedded:
            networks = [n.spec.name for n in self.manifest.networks]
            code["embedded.hpp"] = embedded_header(len(networks))
            code["embedded.cpp"] = embedded_source([(self.params[n], self.weights[n]) for n in networks])
        return {name: text.encode() for name, text in code.items()}

    def files(self) -> dict[str, bytes]:
        """The .param and .bin of each network, and the terms of the weights, by the names of the files."""
        files = {TERMS_FILE: self.terms.encode()}
        for network in self.manifest.networks:
            files[network.files["param"].path] = self.params[network.spec.name].encode()
            files[network.files["bin"].path] = self.weights[network.spec.name]
        return files


def package_cpp(
    artifact: str | os.PathLike[str], output: str | os.PathLike[str], *, embed: bool = False, strip_names: bool = False
) -> Path:
    """Write a C++ library with the model of an artifact.

    The folder holds include/, c/, model/ (model.hpp, model.txt, ncnn's files), runner/, CMakeLists.txt and README.md.
    Of a network that looks at faces, or a chain, there are no c/, runner/ and model.txt.

    Args:
        artifact: The folder that `export` or `chain` wrote, of a target of ncnn.
        output: Folder to write, which must not exist or be empty.
        embed: Whether the networks are written as C++ too (model/embedded.cpp).
        strip_names: Whether layers and blobs get names that say nothing.

    Raises:
        ArtifactError: not an artifact, or a damaged one.
        InputError: not one of ncnn, or of a family or protocol that the C++ library does not have; or `output` exists
            and is not an empty folder.
    """

    def write(folder: Path, model: Model) -> None:
        known = model.constants
        detects = isinstance(known, MosConstants | BoxesConstants)
        for name in ("include", "c", "runner") if detects else ("include",):
            shutil.copytree(SOURCES / name, folder / name, ignore=shutil.ignore_patterns(_CMAKE))
        shutil.copy(SOURCES / "runner" / _CMAKE, folder)
        shutil.copy(SOURCES / "README.md", folder)
        _write(folder / "model", {**model.code(), **model.files()})
        if isinstance(known, MosConstants | BoxesConstants):
            _write(folder / "model", {NAME: model_text(model.manifest, known).encode()})

    return _package(artifact, output, write, embed, strip_names, only_detectors=False)


def package_android(
    artifact: str | os.PathLike[str], output: str | os.PathLike[str], *, embed: bool = False, strip_names: bool = False
) -> Path:
    """Write a library module for Gradle, Kotlin over C++, with the model of an artifact.

    Args:
        artifact: The folder that `export` wrote, of a target of ncnn.
        output: Folder to write, which must not exist or be empty.
        embed: Whether the networks are compiled in, and not assets.
        strip_names: Whether layers and blobs get names that say nothing.

    Raises:
        ArtifactError, InputError: as `package_cpp`.
    """

    def write(folder: Path, model: Model) -> None:
        shutil.copytree(SOURCES / "android", folder, dirs_exist_ok=True)
        code = folder / "src" / "main" / "cpp"
        _library(code, code)
        _write(code / "model", model.code())
        if not model.embedded:
            _write(folder / "src" / "main" / "assets" / "facedeploy", model.files())

    return _package(artifact, output, write, embed, strip_names)


def package_ios(
    artifact: str | os.PathLike[str], output: str | os.PathLike[str], *, embed: bool = False, strip_names: bool = False
) -> Path:
    """Write a Swift package, Swift over C++, with the model of an artifact.

    Args:
        artifact: The folder that `export` wrote, of a target of ncnn.
        output: Folder to write, which must not exist or be empty.
        embed: Whether the networks are compiled in, and not resources.
        strip_names: Whether layers and blobs get names that say nothing.

    Raises:
        ArtifactError, InputError: as `package_cpp`.
    """

    def write(folder: Path, model: Model) -> None:
        shutil.copytree(SOURCES / "ios", folder, dirs_exist_ok=True)
        code = folder / "Sources" / "CFacedeploy"
        _library(code, code / "include")
        (code / "include" / "facedeploy").rename(code / "facedeploy")
        _write(code / "model", model.code())
        if not model.embedded:
            _write(folder / "Sources" / "Facedeploy" / "Model", model.files())
            return
        manifest = folder / "Package.swift"
        text = manifest.read_text(encoding="utf-8")
        assert text.count("let embedded = false") == 1
        manifest.write_text(text.replace("let embedded = false", "let embedded = true"), encoding="utf-8")

    return _package(artifact, output, write, embed, strip_names)


def _package(
    artifact: str | os.PathLike[str],
    output: str | os.PathLike[str],
    write: Callable[[Path, Model], None],
    embed: bool,
    strip_names: bool,
    only_detectors: bool = True,
) -> Path:
    opened = Artifact.open(artifact)
    if only_detectors:
        _no_looker(opened)
    model = _model(opened, embed, strip_names)
    with staged(output) as folder:
        write(folder, model)
        _write(folder, {TERMS_FILE: model.terms.encode()})  # Beside the networks too, but where they are compiled in.
    return Path(output)


def _model(artifact: Artifact, embed: bool, strip_names: bool) -> Model:
    check_manifest(artifact)
    parts = artifact.parts or {"": artifact}
    for part in parts.values():
        target = part.manifest.target
        if target.backend != "ncnn":
            msg = f"{part.path} is for {target}: the C++ library runs ncnn, so export with --target ncnn-fp16"
            raise InputError(msg)
    known = described(artifact.manifest)
    made, params, weights = {}, {}, {}
    for name, part in parts.items():
        manifest = part.manifest
        texts = {n.spec.name: _text(part.file(n.spec.name, "param")) for n in manifest.networks}
        made[name], texts = strip(manifest, texts) if strip_names else (manifest, texts)
        for network, text in texts.items():
            whole = f"{name}/{network}" if artifact.parts else network
            params[whole], weights[whole] = text, part.file(network, "bin").read_bytes()
    manifest = joined(made) if artifact.parts else made[""]
    return Model(manifest, known, params, weights, embed, terms_file(artifact))


def _no_looker(artifact: Artifact) -> None:
    """Refuse what Kotlin and Swift do not run.

    Raises:
        InputError: it looks at faces, or is a chain.
    """
    if artifact.parts or looks(artifact.manifest.pipeline):
        what = "is a chain" if artifact.parts else "looks at faces"
        msg = f"{artifact.path} {what}, which Kotlin and Swift do not run: package it with --cpp, or a detector alone"
        raise InputError(msg)


def _text(param: Path) -> str:
    try:
        return param.read_bytes().decode()
    except UnicodeDecodeError as error:
        msg = f"{param} is not text: export the artifact again"
        raise ArtifactError(msg) from error


def _library(code: Path, headers: Path) -> None:
    """The C++ library and the C functions over it, for a compiler that takes all of one folder."""
    shutil.copytree(SOURCES / "include", code / "include", dirs_exist_ok=True)
    shutil.copy(SOURCES / "c" / "facedeploy.h", headers)
    shutil.copy(SOURCES / "c" / "facedeploy.cpp", code)


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
