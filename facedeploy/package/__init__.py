"""An artifact as a C++ bundle for an app. Start at `bundle.package_cpp`."""

__all__ = ["bundle"]
