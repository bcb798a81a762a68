"""A user's network and what its outputs mean, put together: settings, the head's graph, and the reference with it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from facedeploy import pipelines
from facedeploy.core.errors import InputError
from facedeploy.core.network_spec import NetworkSpec, TensorSpec
from facedeploy.core.optional_imports import onnx
from facedeploy.core.serialization import from_plain, to_plain
from facedeploy.graph.decode.build import build, decoded_spec, raw_feed
from facedeploy.graph.index import shape_of
from facedeploy.pipelines.custom import NETWORK
from facedeploy.runtimes.base import Array, Arrays, Opener, Runtime, RuntimeOptions
from facedeploy.runtimes.onnxruntime import OnnxRuntimeRuntime
from facedeploy.sources.plausible import implausible
from facedeploy.sources.plausible_look import implausible_look
from facedeploy.sources.recognise import as_family, matches
from facedeploy.sources.settings import NetworkSettings, WrittenSettings


@dataclass(frozen=True)
class Described:
    """A network with the meaning of its outputs.

    Attributes:
        settings: What the network wants and gives.
        spec: With the head's outputs.
        head: What decodes the raw outputs; None where nothing is to be decoded.
        reason: Why it was taken for `settings.family`; empty where the user said what it is.
    """

    settings: NetworkSettings
    spec: NetworkSpec
    head: onnx.ModelProto | None
    reason: str = ""

    def reference(self, raw: Opener) -> Opener:
        """Opens the network with its head, from what opens it without."""
        head = self.head
        return raw if head is None else lambda options: DecodedRuntime(raw(options), head, self.spec)

    def kept(self) -> dict[str, Any]:
        """The settings as a manifest keeps them."""
        plain: dict[str, Any] = to_plain(self.settings)
        return plain


def describe(name: str, raw: NetworkSpec, run: Opener, written: WrittenSettings, family: str | None) -> Described:
    """Find what the outputs of a network mean: as its settings say, or as a family has them.

    Args:
        name: What messages call the network.
        raw: The network, with the shapes of its own outputs.
        run: Opens it.
        written: The user's settings.
        family: The family that the user names; None for that of the settings, or for whichever it is.

    Raises:
        InputError: it has not the outputs that are described, may be of several families, or is not of the one that
            was named.
    """
    named = family or written.family
    found = candidates(name, raw, written, family)
    if len(found) > 1:
        good = tuple(c for c in found if not contradiction(c, run))
        found = good or (found if named is None else found[:1])
    if not found:
        return described(raw, written.read())
    if len({c.settings.family for c in found}) > 1:
        raise InputError(_doubt(name, found))
    return found[0] if named is None else dataclasses.replace(found[0], reason="")


def candidates(name: str, raw: NetworkSpec, written: WrittenSettings, family: str | None) -> tuple[Described, ...]:
    """Everything that the outputs of a network can mean, by their shapes alone; nothing where nothing fits.

    Args:
        name: What messages call the network.
        raw: The network, with the shapes of its own outputs.
        written: The user's settings. Where they say what the outputs mean, that is the only candidate.
        family: The family that the user names; None for that of the settings, or for any.

    Raises:
        InputError: it has not the outputs that are described, or is not of the family that was named.
    """
    if None not in (family, written.family) and family != written.family:
        msg = f"{name}: --family says {family}, and the settings beside it {written.family}: leave one"
        raise InputError(msg)
    family = family or written.family
    if _complete(written) or (family is None and written.read().described):
        return (described(raw, written.read()),)
    found = matches(raw) if family is None else as_family(family, raw)
    return tuple(
        dataclasses.replace(described(raw, written.read(match.settings)), reason=match.reason) for match in found
    )


def described(raw: NetworkSpec, settings: NetworkSettings) -> Described:
    """A network whose settings are complete.

    Raises:
        InputError: it has not the outputs that they describe.
    """
    if settings.decode is None:
        return Described(settings, raw, None)
    head = build(raw, settings.decode)
    return Described(settings, decoded_spec(raw, head), head)


def check_meaning(name: str, candidate: Described, run: Opener) -> None:
    """Refuse settings that cannot be meant.

    Raises:
        InputError: says which of them, and why.
    """
    if candidate.settings.described and (wrong := contradiction(candidate, run)):
        taken = f" (taken as {candidate.settings.family}: {candidate.reason})" if candidate.reason else ""
        msg = f"{name}{taken}: {wrong}"
        raise InputError(msg)


def from_kept(raw: NetworkSpec, kept: Mapping[str, Any]) -> Described:
    """What `Described.kept` was made of.

    Raises:
        InputError: the settings are none, or of another network.
    """
    return described(raw, from_plain(NetworkSettings, dict(kept)))


def _complete(written: WrittenSettings) -> bool:
    """Whether the settings name the outputs themselves, as those that `inspect --write` writes do."""
    return "outputs" in written.plain or "boxes" in (written.plain.get("decode") or {})


def contradiction(candidate: Described, run: Opener) -> str:
    """What cannot be true of a meaning, on drawn faces and on a photograph; empty where all can."""
    entry = candidate.settings.configure(candidate.spec, None)
    with candidate.reference(run)(pipelines.runtime_options(entry, NETWORK, 0)) as runtime:
        settings = candidate.settings
        if settings.meaning is not None:
            return implausible_look(runtime, entry)
        return implausible(runtime, entry, counted=settings.check, decode=settings.decode)


def _doubt(name: str, found: Sequence[Described]) -> str:
    reasons = {str(c.settings.family): c.reason for c in found}
    if len(set(reasons.values())) == 1:
        fits = f"{' or '.join(reasons)} ({found[0].reason})"
    else:
        fits = " or ".join(f"{family} ({reason})" for family, reason in reasons.items())
    return f"{name} may be {fits}: say which with --family"


class DecodedRuntime(Runtime):
    """A network with its head behind it: the one as it came, the other in ONNX Runtime."""

    backend = "decoded"
    concurrent = False

    def __init__(self, inner: Runtime, head: onnx.ModelProto, spec: NetworkSpec) -> None:
        super().__init__(spec, inner.options)
        self.inner = inner
        self._head_graph = head
        options = RuntimeOptions(self.options.threads)
        self._head = OnnxRuntimeRuntime(head.SerializeToString(), _head_spec(head, spec), options)

    def _run(self, inputs: Mapping[str, Array]) -> Arrays:
        return self._head.run(raw_feed(self._head_graph, self.inner.run(inputs)))

    def describe(self) -> dict[str, Any]:
        return self.inner.describe()

    def _close(self) -> None:
        self.inner.close()
        self._head.close()


def _head_spec(head: onnx.ModelProto, spec: NetworkSpec) -> NetworkSpec:
    inputs = tuple(TensorSpec(v.name, shape_of(v)) for v in head.graph.input)
    return NetworkSpec("head", inputs, spec.outputs)
