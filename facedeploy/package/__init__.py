"""Artifacts as C++ bundles for phones."""
