"""Run the command line as Windows or macOS would: without the modules, names, files and encodings that are not there.

    python -X warn_default_encoding other_system.py windows models

The package finds itself with the extra `onnx` and nothing else. What decides by the system when it is imported, of
Python itself and of installed packages, is that of this machine, so it is imported first; `os.name` stays for the same
reason, as it is what `pathlib` makes paths of.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.abc
import importlib.metadata
import os
import pkgutil
import platform
import runpy
import select
import signal
import sys
import warnings
from collections.abc import Iterable
from typing import Any


def _words(text: str) -> list[str]:
    return text.split()


FIRST = _words(
    """
    asyncio concurrent.futures.process ctypes.util getpass logging.handlers multiprocessing.context
    multiprocessing.popen_spawn_posix selectors shutil socket subprocess sysconfig tempfile urllib.request uuid
    zipfile zoneinfo cv2 numpy onnxruntime rich.console tqdm typer typer.rich_utils
    """
)
# Of other extras: their modules, and the names that they are installed under.
ELSEWHERE = _words(
    """
    jinja2 ncnn onnx onnxscript onnxsim openvino pnnx ray scipy tensorrt tensorrt_rtx torch
    """
)

# Python's documentation: what is, and what is not, available on Windows, and not on macOS.
ONLY_UNIX = _words("fcntl grp pty pwd readline resource syslog termios tty")
WINDOWS_SIGNALS = _words("SIGABRT SIGFPE SIGILL SIGINT SIGSEGV SIGTERM SIG_DFL SIG_IGN")
WINDOWS_FLAGS = _words("O_APPEND O_CREAT O_EXCL O_RDONLY O_RDWR O_TRUNC O_WRONLY")
NOT_ON_WINDOWS = _words(
    """
    chown chroot confstr copy_file_range ctermid eventfd fchdir fchmod fchown fdatasync fork forkpty fpathconf
    fstatvfs getegid geteuid getgid getgrouplist getgroups getloadavg getpgid getpgrp getpriority getrandom
    getresgid getresuid getsid getuid getxattr initgroups killpg lchown listxattr lockf major makedev memfd_create
    minor mkfifo mknod nice openpty pathconf pidfd_open pipe2 posix_fadvise posix_fallocate posix_spawn posix_spawnp
    pread preadv pwrite pwritev readv register_at_fork removexattr sched_get_priority_max sched_getaffinity
    sched_getparam sched_getscheduler sched_rr_get_interval sched_setaffinity sched_setparam sched_setscheduler
    sched_yield sendfile setegid seteuid setgid setgroups setpgid setpriority setregid setresgid setresuid setreuid
    setsid setuid setxattr splice statvfs sync sysconf tcgetpgrp tcsetpgrp ttyname uname wait wait3 wait4 waitid
    writev
    """
)
NOT_ON_MACOS = _words(
    """
    copy_file_range eventfd getrandom getresgid getresuid getxattr listxattr memfd_create pidfd_open pipe2
    posix_fadvise posix_fallocate removexattr sched_getaffinity sched_getparam sched_getscheduler
    sched_rr_get_interval sched_setaffinity sched_setparam sched_setscheduler setresgid setresuid setxattr splice
    O_DIRECT O_LARGEFILE O_NOATIME O_PATH O_RSYNC O_TMPFILE
    """
)
NOT_ON_MACOS_SIGNALS = _words("SIGCLD SIGPOLL SIGPWR SIGRTMAX SIGRTMIN SIGSTKFLT sigtimedwait sigwaitinfo")
ABSENT = ("/proc", "/sys", "/etc/os-release")

EVERYTHING = "import everything"
# Never imported here: it is sent to a device that has a POSIX shell, and needs the standard library only.
ON_DEVICES = "facedeploy.devices.python.worker"


def main() -> None:
    system, *words = sys.argv[1:]
    everything = words == [EVERYTHING]
    for name in FIRST:
        importlib.import_module(name)
    for name in ELSEWHERE if everything else ():
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(name)
    sys.argv = ["facedeploy", *words]
    hide_files()
    {"windows": windows, "macos": macos}[system]()
    if everything:
        import_everything()
        return
    hide_packages()
    runpy.run_module("facedeploy", run_name="__main__")


def windows() -> None:
    hide(os, [*NOT_ON_WINDOWS, *(n for n in dir(os) if n.startswith("O_") and n not in WINDOWS_FLAGS)])
    hide(signal, [n for n in dir(signal) if n.startswith("SIG") and n.isupper() and n not in WINDOWS_SIGNALS])
    hide(signal, _words("alarm getitimer pause pthread_kill pthread_sigmask setitimer siginterrupt sigwait"))
    hide(select, ["epoll", "poll"])
    for name in ONLY_UNIX:
        sys.modules[name] = None  # type: ignore[assignment]  # Importing it is then an ImportError.
    sys.platform = "win32"
    platform.system = lambda: "Windows"
    # A pipe has the encoding of the country there, and so has a file that is opened without saying one.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="cp1252")  # type: ignore[union-attr]
    warnings.filterwarnings("error", category=EncodingWarning, module=r"facedeploy(\.|$)")


def macos() -> None:
    hide(os, NOT_ON_MACOS)
    hide(signal, NOT_ON_MACOS_SIGNALS)
    hide(select, ["epoll"])
    sys.platform = "darwin"
    platform.system = lambda: "Darwin"


def import_everything() -> None:
    import facedeploy

    for found in pkgutil.walk_packages(facedeploy.__path__, "facedeploy."):
        if not found.name.endswith("__main__") and found.name != ON_DEVICES:
            importlib.import_module(found.name)
            print(found.name)


def hide(module: Any, names: Iterable[str]) -> None:
    for name in names:
        if hasattr(module, name):
            delattr(module, name)


class Nowhere(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        if fullname.partition(".")[0] in ELSEWHERE:
            msg = f"No module named {fullname!r}"
            raise ModuleNotFoundError(msg, name=fullname)


def hide_packages() -> None:
    sys.meta_path.insert(0, Nowhere())
    distribution = importlib.metadata.distribution

    def installed(distribution_name: str) -> importlib.metadata.Distribution:
        name = distribution_name
        if any(name.startswith(module.replace("_", "-")) and name != "onnxruntime" for module in ELSEWHERE):
            raise importlib.metadata.PackageNotFoundError(name)
        return distribution(name)

    importlib.metadata.distribution = installed


def hide_files() -> None:
    """No Linux, no /proc: neither opening such a file nor asking for it finds it."""

    def absent(path: object) -> bool:
        text = os.fsdecode(path) if isinstance(path, (str, bytes, os.PathLike)) else ""
        return any(text == root or text.startswith(f"{root}/") for root in ABSENT)

    def watch(event: str, words: tuple[object, ...]) -> None:
        if event in ("open", "os.listdir", "os.scandir") and words and absent(words[0]):
            raise FileNotFoundError(2, "No such file or directory", words[0])

    def asks(ask: Any) -> Any:
        def asked(path: Any, *words: Any, **named: Any) -> Any:
            if absent(path):
                raise FileNotFoundError(2, "No such file or directory", path)
            return ask(path, *words, **named)

        return asked

    os.stat, os.lstat = asks(os.stat), asks(os.lstat)
    sys.addaudithook(watch)


if __name__ == "__main__":
    main()
