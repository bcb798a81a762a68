"""An artifact as a model repository of Triton Inference Server. Start at `repository.package_triton`."""

__all__ = ["repository"]
