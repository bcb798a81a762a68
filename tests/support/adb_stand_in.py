"""What `adb` is in the tests: `python adb_stand_in.py FOLDER WORDS...` runs a phone's shell on this machine.

As adb and its daemon do, a shell runs in a session of its own with a socket for input and output; when the client goes,
the shell gets SIGHUP and its socket is closed; statuses are passed on, 255 is a connection that ended. Paths of a phone
in a script become those below FOLDER. What was asked is in FOLDER/log, a JSON list a line; FOLDER/state is what adb
says of the phone ("device" where all is well), as transport.cpp of adb words it.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import socket
import sys
from pathlib import Path

STATES = {
    "unauthorized": "error: device unauthorized.\nThis adb server's $ADB_VENDOR_KEYS is not set\nTry 'adb kill-server' "
    "if that seems wrong.\nOtherwise check for a confirmation dialog on your device.",
    "authorizing": "error: device still authorizing",
    "offline": "error: device offline",
    "none": "error: no devices/emulators found",
    "several": "error: more than one device/emulator",
    "other": "error: device 'ABC' not found",
    "permissions": "error: insufficient permissions for device: missing udev rules? user is in the plugdev group",
    "old": "error: device only supports allocating a pty",
    "closed": "error: closed",
}
_ROOTS = ("/data/local/tmp", "/system/bin/sh", "/sys/devices/system/cpu")
_BLOCK = 1 << 16


def main() -> int:
    folder, words = Path(sys.argv[1]), sys.argv[2:]
    with (folder / "log").open("a") as log:
        log.write(json.dumps(words) + "\n")
    state = (folder / "state").read_text()
    if state in STATES:
        print(STATES[state], file=sys.stderr)
        return 1
    rest = words[2:] if words[:1] == ["-s"] else words
    if rest[:2] != ["shell", "-T"] or len(rest) < 3:
        print("the stand-in knows `shell -T COMMAND` only", file=sys.stderr)
        return 1
    script = " ".join(rest[2:])
    for root in _ROOTS:
        script = script.replace(root, f"{folder}{root}")
    return _client(folder, script)


def _client(folder: Path, script: str) -> int:
    """Passes on what comes, as the command that the user runs."""
    given, said, errors, status, alive = (os.pipe() for _ in range(5))
    if os.fork() == 0:
        for end in (given[1], said[0], errors[0], status[0], alive[1]):
            os.close(end)
        os.setsid()
        _daemon(folder, script, given[0], said[1], errors[1], status[1], alive[0])
    for end in (given[0], said[1], errors[1], status[1], alive[0]):
        os.close(end)
    passed = {0: given[1], said[0]: 1, errors[0]: 2}
    while {said[0], errors[0]} & {*passed}:
        for source in select.select([*passed], [], [])[0]:
            block = os.read(source, _BLOCK)
            if not block:
                target = passed.pop(source)
                if source == 0:
                    os.close(target)
                continue
            try:
                os.write(passed[source], block)
            except BrokenPipeError:
                passed.pop(source)
    return int(os.read(status[0], 10) or b"255")


def _daemon(folder: Path, script: str, given: int, said: int, errors: int, status: int, alive: int) -> None:
    """What runs on the phone for one client. It never returns."""
    for number in (0, 1, 2):
        os.dup2(os.open(os.devnull, os.O_RDWR), number)
    ours, theirs = socket.socketpair()
    complaint = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setsid()
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        for number, end in enumerate((theirs.fileno(), theirs.fileno(), complaint[1])):
            os.dup2(end, number)
        os.closerange(3, 64)
        if (folder / "largest").exists():
            # What is ignored stays so: a write that is too much is then an error, as on a full disk.
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (int((folder / "largest").read_text()),) * 2)
        environment = {"PATH": str(folder / "system/bin"), "PHONE": str(folder), "HOME": "/"}
        shell = f"{folder}/system/bin/sh"
        os.execve(shell, [shell, "-c", script], environment)
    theirs.close()
    os.close(complaint[1])
    sources = {given, ours.fileno(), complaint[0], alive}
    while {ours.fileno(), complaint[0]} & sources:
        ready = select.select([*sources], [], [])[0]
        if (folder / "cut").exists() and (folder / "cut").read_text() in script:
            os.kill(pid, signal.SIGHUP)  # As where the cable is pulled: the client hears nothing more.
            os._exit(0)
        for source in ready:
            try:
                block = os.read(source, _BLOCK)
            except ConnectionError:  # It ended and had not read all that it was sent.
                block = b""
            if block:
                try:
                    if source == given:
                        ours.sendall(block)
                    else:
                        os.write(said if source == ours.fileno() else errors, block)
                except (BrokenPipeError, ConnectionError):
                    sources.discard(source)
                continue
            sources.discard(source)
            if source == alive:
                os.kill(pid, signal.SIGHUP)
                os._exit(0)
            if source == given:
                ours.shutdown(socket.SHUT_WR)
    _, ended = os.waitpid(pid, 0)
    code = 128 | os.WTERMSIG(ended) if os.WIFSIGNALED(ended) else os.WEXITSTATUS(ended)
    os.write(status, str(code).encode())
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
