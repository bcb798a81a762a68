"""An artifact for an app, in C++, Kotlin or Swift, or for Triton. Start at `bundle.package_cpp` and
`triton.repository.package_triton`.
"""

__all__ = ["bundle", "triton"]
