"""A machine that the system's OpenSSH client reaches. docs/explanation/devices.md says why that client."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

from facedeploy.core.errors import InputError
from facedeploy.devices.connection import Device

CONFIG = "FACEDEPLOY_SSH_CONFIG"  # Environment variable: a configuration file in place of ~/.ssh/config.
# ssh gives names to programs of the user's configuration, so they are of letters that no shell reads anything into.
_URL = re.compile(
    r"ssh://(?:(?P<user>\w[\w.+-]*)@)?(?P<host>\w[\w.-]*|\[[0-9A-Fa-f:.]+(?:%\w+)?\])(?::(?P<port>[0-9]{1,5}))?/?"
    r"(?:\?python=(?P<python>[\w~/.+-]+))?",
    re.ASCII,
)
_OPTIONS = {
    "BatchMode": "yes",  # Asks nothing: an unknown host, or a key that does not open, is an error.
    "ConnectTimeout": "20",
    "ServerAliveInterval": "10",
    "ServerAliveCountMax": "3",
    "LogLevel": "ERROR",
    # A shared connection is used where there is one; one that we began would outlive us.
    "ControlMaster": "no",
    # What a configuration may want of a session for people.
    "RemoteCommand": "none",
    "RequestTTY": "no",
    "ClearAllForwardings": "yes",
    "ForwardAgent": "no",
    "ForwardX11": "no",
}
_FAILED = 255  # ssh(1), EXIT STATUS.


@dataclass(frozen=True)
class SshDevice(Device):
    """A machine that the system's OpenSSH client reaches. What is None is left to that client.

    Attributes:
        host: A name that ssh knows, also one of its configuration.
        user: Who logs in there.
        port: Where its server listens.
    """

    host: str = ""
    user: str | None = None
    port: int | None = None

    def command(self, script: str) -> list[str]:
        """Run by whatever shell the user has there, which needs to know no more than `exec` and quotes."""
        return [*self._ssh(*(f"-o{k}={v}" for k, v in _OPTIONS.items())), f"exec {self.shell} -c {shlex.quote(script)}"]

    def failed(self, status: int) -> bool:
        return status == _FAILED or status < 0

    @property
    def by_hand(self) -> str:
        return shlex.join([*self._ssh(), "true"])

    def _ssh(self, *options: str) -> list[str]:
        config = os.environ.get(CONFIG)
        return [
            *("ssh", *(("-F", config) if config else ()), *options),
            *(("-p", str(self.port)) if self.port is not None else ()),
            *(("-l", self.user) if self.user else ()),
            *("--", self.host),
        ]


def parse_ssh(url: str) -> SshDevice:
    """Read ssh://[user@]host[:port][?python=PATH].

    Raises:
        InputError: it is something else, or there is no ssh here.
    """
    found = _URL.fullmatch(url)
    port = int(found["port"]) if found and found["port"] else None
    if found is None or (port is not None and not 0 < port < 1 << 16):
        msg = f"{url!r} is no machine to reach by ssh: write ssh://[user@]host[:port][?python=PATH]"
        raise InputError(msg)
    if shutil.which("ssh") is None:
        msg = f"{url} needs the OpenSSH client: install openssh-client here"
        raise InputError(msg)
    config = os.environ.get(CONFIG)
    if config and not Path(config).is_file():
        msg = f"{CONFIG} names {config}, which is no file"
        raise InputError(msg)
    host = found["host"].strip("[]")
    name = url.partition("?")[0].rstrip("/")
    return SshDevice(name, found["python"] or "python3", host=host, user=found["user"], port=port)
