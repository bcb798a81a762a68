"""The artifact: the folder that `export` writes and everything else reads, and its `manifest.json`.

Start at `folder.Artifact`; `manifest.Manifest` says what a manifest holds.
"""

__all__ = ["chain", "digest", "folder", "given", "loss", "manifest"]
