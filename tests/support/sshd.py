"""A real sshd on this machine, with keys and configuration of its own: what a device is to the tests."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

_SECONDS = 10.0


@dataclass(frozen=True)
class Sshd:
    """A running server. home: of its sessions. config: of a client that knows the server."""

    port: int
    pid: int
    home: Path
    config: Path
    host_key: Path

    @property
    def url(self) -> str:
        return f"ssh://127.0.0.1:{self.port}"

    @property
    def cache(self) -> Path:
        return self.home / ".cache" / "facedeploy"

    def processes(self) -> dict[int, str]:
        """Commands of all processes of the sessions: those that have its home in their environment."""
        found = {}
        for place in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if f"HOME={self.home}".encode() in (place / "environ").read_bytes().split(b"\0"):
                    found[int(place.name)] = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        return found

    def wait_for_none(self) -> dict[int, str]:
        """Processes that are still there after some seconds, but none if all is well."""
        deadline = time.monotonic() + _SECONDS
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return left

    def sessions(self) -> list[int]:
        """Process ids of the server's own children, one or two for each connection."""
        found: list[int] = []
        parents = [self.pid]
        while parents:
            parent = parents.pop()
            for place in Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError, ValueError):
                    fields = (place / "stat").read_text().rpartition(")")[2].split()
                    name = (place / "comm").read_text().strip()
                    if int(fields[1]) == parent and name.startswith("sshd"):
                        found.append(int(place.name))
                        parents.append(int(place.name))
        return found


@contextlib.contextmanager
def serve(folder: Path, environment: Mapping[str, str], limit_bytes: int | None = None) -> Iterator[Sshd]:
    """Run a server whose sessions have `environment`. limit_bytes: the largest file that they may write.

    Skips the test where there is no sshd.
    """
    program = shutil.which("sshd", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"]))
    if program is None or shutil.which("ssh-keygen") is None:
        pytest.skip("no sshd here: install openssh-server to test devices over ssh")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd leaves its privileges there.
    home, port = folder / "home", _free_port()
    home.mkdir(parents=True)
    for name in ("host", "user"):
        make_key(folder / name)
    shutil.copy(folder / "user.pub", folder / "authorized")
    (folder / "authorized").chmod(0o600)
    sets = " ".join(f'"{k}={v}"' for k, v in {"HOME": str(home), **environment}.items())
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder / 'host'}\nPidFile none\nStrictModes no\n"
        f"AuthorizedKeysFile {folder / 'authorized'}\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        f"PermitRootLogin yes\nSetEnv {sets}\n"
    )
    write_known(folder / "known", port, folder / "host.pub")
    (folder / "ssh_config").write_text(
        f"Host *\n  User {getpass.getuser()}\n  IdentityFile {folder / 'user'}\n  IdentitiesOnly yes\n"
        f"  UserKnownHostsFile {folder / 'known'}\n  GlobalKnownHostsFile none\n"
    )
    command = [program, "-D", "-e", "-f", str(folder / "sshd_config")]
    if limit_bytes is not None:
        command = [sys.executable, "-c", _LIMITED, str(limit_bytes), *command]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    made = Sshd(port, server.pid, home, folder / "ssh_config", folder / "host")
    try:
        _wait(port, server, folder / "log")
        yield made
    finally:
        for pid in (*made.sessions(), *made.processes()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        server.kill()
        server.wait()


def make_key(path: Path) -> None:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def write_known(path: Path, port: int, public: Path) -> None:
    kind, key, *_ = public.read_text().split()
    path.write_text(f"[127.0.0.1]:{port} {kind} {key}\n")


# Python starts with SIGXFSZ ignored, and what is ignored stays so: a write that is too much is then an error (EFBIG).
_LIMITED = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
os.execv(sys.argv[2], sys.argv[2:])
"""


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _wait(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    pytest.fail(f"sshd does not start: {log.read_text()}")
