"""Other machines to measure and to build on: over ssh, or a phone over adb. Start at `open.open_device`.

docs/explanation/devices.md and docs/explanation/phones.md say what happens on them.
"""

__all__ = ["adb", "connection", "open", "phone", "python", "ssh"]
