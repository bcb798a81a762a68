"""The digest of a manifest. It covers every value that stands there, and with those the digest of every file."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from facedeploy.artifact.manifest import Manifest
from facedeploy.core.serialization import to_plain

_KEY = "digest"


def digest_of(plain: Mapping[str, Any]) -> str:
    """Hex SHA-256 of a manifest as JSON has it, without its own digest, whatever its layout and the order of its keys.

    It is of the values that stand there and not of those that a release fills in, so that a later release finds the
    same one.
    """
    covered = {name: value for name, value in plain.items() if name != _KEY}
    return hashlib.sha256(json.dumps(covered, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def signed(manifest: Manifest) -> Manifest:
    """The same manifest with its digest."""
    return dataclasses.replace(manifest, digest=digest_of(to_plain(manifest)))
