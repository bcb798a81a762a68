"""Every error that a user can meet. The command line prints the message and exits with `exit_status`."""

from __future__ import annotations


def brief(error: BaseException) -> str:
    """What a tool says of itself, on one line: some write a page."""
    return " ".join(str(error).split())[:300]


class FacedeployError(Exception):
    """Base class. The message is one sentence: what is wrong, where, and what to do."""

    exit_status = 2


class InputError(FacedeployError):
    """The call, or a file that it names, is wrong."""


class CheckpointError(FacedeployError):
    """The weights are not those of the model."""


class ArtifactError(FacedeployError):
    """An artifact is damaged, unsafe, unfinished or of a version that this release cannot read."""


class BackendUnavailableError(FacedeployError):
    """A backend is not installed, or this machine cannot run it."""


class DeviceError(FacedeployError):
    """Another machine cannot be reached, was lost, or does not do what it is asked."""


class ConversionError(FacedeployError):
    """A converter or compiler failed, or wrote something that its own runtime does not load."""

    exit_status = 1


class ParityError(FacedeployError):
    """A compiled network does not give the answers of the PyTorch one."""

    exit_status = 1


class SlowerError(FacedeployError):
    """An int8 network is slower than the float one on this machine, and is required not to be."""

    exit_status = 1
