"""Other machines to measure and to build on: what they hold, what they run. docs/explanation/devices.md says how.

The worker imports this on the device before it knows what is installed there, so only the standard library is imported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from facedeploy.core.errors import InputError

if TYPE_CHECKING:
    from facedeploy.devices.connection import Device


def open_device(url: str) -> Device:
    """Find the device that a URL names. Nothing is connected yet.

    Args:
        url: `local` (a process of this machine), `ssh://[user@]host[:port][?python=PATH]`, or
            `adb://[SERIAL][?runner=PATH][&cores=4-7]`.

    Returns:
        The device.

    Raises:
        InputError: it names none, or what reaches it is not installed here.
    """
    if url == "local":
        from facedeploy.devices.connection import LocalDevice

        return LocalDevice()
    if url.startswith("ssh://"):
        from facedeploy.devices.ssh import parse_ssh

        return parse_ssh(url)
    if url.startswith("adb://"):
        from facedeploy.devices.adb import parse_adb

        return parse_adb(url)
    msg = f"{url!r} is no device: devices are local, ssh://[user@]host[:port] and adb://[SERIAL]"
    raise InputError(msg)
