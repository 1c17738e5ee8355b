# SPDX-License-Identifier: GPL-2.0-or-later
"""Lasting mounts, programs in their own namespaces, and a thread with its own root.

A part of the kernel edge: one function for each call that Python does not offer, raising OSError,
as in syscalls.py; and `run_inside`, which starts a program with a tree for its root.
"""

from __future__ import annotations

import _thread  # all that threading adds is not needed, and takes a millisecond to import
import ctypes
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Callable, NoReturn, TypeVar

from ...errors import Error, ProcessError
from . import syscalls

# linux/mount.h: MOUNT_ATTR_RDONLY, NOSUID, NODEV, NOEXEC, NOATIME
_ONLY_A_LOOK = 0x01 | 0x02 | 0x04 | 0x08 | 0x10
_UMOUNT_NOFOLLOW = 8
_CLONE_FS, _CLONE_NEWNS = 0x200, 0x20000  # linux/sched.h
# CLONE_NEWUTS, NEWIPC, NEWPID, linux/sched.h
_ALL_NAMESPACES = _CLONE_NEWNS | 0x4000000 | 0x8000000 | 0x20000000
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REMOUNT = 1, 2, 4, 8, 32  # linux/mount.h
_MS_BIND, _MS_REC, _MS_PRIVATE, _MNT_DETACH = 0x1000, 0x4000, 0x40000, 2
_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP = 1, 24  # linux/prctl.h
# linux/capability.h: with these a process could reach the rest of the filesystem, other devices,
# or the machine itself: DAC_READ_SEARCH (by file handle), NET_ADMIN, SYS_MODULE, SYS_RAWIO,
# SYS_CHROOT, SYS_PTRACE, SYS_PACCT, SYS_ADMIN, SYS_BOOT, SYS_TIME, MKNOD, AUDIT_CONTROL,
# MAC_OVERRIDE, MAC_ADMIN, SYSLOG, PERFMON, BPF.
_TAKEN_AWAY = (2, 12, 16, 17, 18, 19, 20, 21, 22, 25, 27, 30, 32, 33, 34, 38, 39)

_Result = TypeVar("_Result")
_libc = ctypes.CDLL(None, use_errno=True)


def detached_look(source: str, subvolume_id: int, *, read_only: bool) -> int:
    """Return a descriptor of a subvolume, mounted nowhere yet: ro,nosuid,nodev,noexec,noatime.

    `read_only` is what the filesystem is: asked for anything else some kernels would change the
    mounts of it that are there.
    """
    return syscalls.detached_mount(
        source, subvolume_id, read_only=read_only, attributes=_ONLY_A_LOOK
    )


def rooted(tree: int, function: Callable[[], _Result]) -> _Result:
    """Call a function for which the open directory is "/", chroot(2), and return its result.

    For libraries that need a path to something that is not mounted. Only the thread in which it
    runs has this root, unshare(2). Raises OSError.
    """
    found: list[_Result] = []
    raised: list[BaseException] = []
    runs = _thread.allocate_lock()

    def run() -> None:
        try:
            _check(_libc.unshare(_CLONE_FS), "/")
            os.fchdir(tree)
            os.chroot(".")
            found.append(function())
        except BaseException as error:  # noqa: BLE001  # raised below, where somebody waits
            raised.append(error)
        finally:
            runs.release()

    runs.acquire()
    _thread.start_new_thread(run, ())
    runs.acquire()
    for error in raised:
        raise error
    return found[0]


def mount_id(descriptor: int) -> int:
    """Return the number that mountinfo has of the mount that an open file is on."""
    with open(f"/proc/self/fdinfo/{descriptor}", encoding="ascii") as file:
        return int(dict(line.split(":", 1) for line in file)["mnt_id"])


def unmount(directory: str) -> None:
    """Unmount what is mounted on a directory unless it is in use, umount2(2)."""
    sys.audit("fs-rollback.changed", "unmount", directory)
    _check(_libc.umount2(os.fsencode(directory), _UMOUNT_NOFOLLOW), directory)


def mount(kind: str, directory: str, options: str = "", *, read_only: bool = False) -> None:
    """Mount a filesystem of the kernel's own, without setuid files or programs, mount(2)."""
    flags = _MS_NOSUID | _MS_NOEXEC | (_MS_RDONLY if read_only else 0)
    # Devices are shown in a tmpfs, by `bind`, and a terminal's are in devpts.
    flags |= 0 if kind in ("tmpfs", "devpts") else _MS_NODEV
    _mount(kind, directory, kind, flags, options)


def bind(source: str, place: str) -> None:
    """Show a file at another place too, mount(2) with MS_BIND."""
    _mount(source, place, "none", _MS_BIND)


def protect(path: str) -> None:
    """Let nothing be written to what is shown at a path, and below it, mount(2)."""
    _mount(path, path, "none", _MS_BIND | _MS_REC)
    _mount("none", path, "none", _MS_BIND | _MS_REMOUNT | _MS_RDONLY | _MS_NOSUID | _MS_NOEXEC)


def _mount(source: str, place: str, kind: str, flags: int, options: str = "") -> None:
    words = (os.fsencode(word) for word in (source, place, kind))
    _check(_libc.mount(*words, ctypes.c_ulong(flags), os.fsencode(options)), place)


def unshare_mounts() -> None:
    """Give this process its own mount table, unshare(2): no other process sees its mounts.

    Never call it in a process that is not ours, such as dnf: it cannot be undone.
    """
    _unshare(_CLONE_NEWNS)


def _unshare(namespaces: int) -> None:
    _check(_libc.unshare(namespaces), "/")
    _mount("none", "/", "none", _MS_REC | _MS_PRIVATE)


def detach(directory: str) -> None:
    """Unmount what is mounted on a directory and all below it, umount2(2) with MNT_DETACH."""
    sys.audit("fs-rollback.changed", "unmount", directory)
    _check(_libc.umount2(os.fsencode(directory), _MNT_DETACH), directory)


def _die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends, prctl(2)."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), 0, 0, 0), "/")


def enter(directory: str) -> None:
    """Make a mounted directory the root, pivot_root(2): nothing that was mounted stays in reach."""
    os.chdir(directory)
    # The old root is mounted over the new one, and goes from there: pivot_root(2), NOTES.
    _check(_libc.syscall(_pivot_root_number(), b".", b"."), directory)
    _check(_libc.umount2(b".", _MNT_DETACH), directory)
    os.chdir("/")


def _pivot_root_number() -> int:
    """Return the number of pivot_root(2), which is older than the table that all share."""
    return {"x86_64": 155, "ppc64le": 203, "s390x": 217}.get(os.uname().machine, 41)


def set_host_name(name: str) -> None:
    """Set the name of the host in the namespace of this process, sethostname(2)."""
    data = os.fsencode(name)
    _check(_libc.sethostname(data, ctypes.c_size_t(len(data))), name)


def give_up_capabilities() -> None:
    """Drop, permanently, the capabilities that reach beyond the root and its devices, prctl(2)."""
    for number in _TAKEN_AWAY:
        if _libc.prctl(_PR_CAPBSET_DROP, ctypes.c_ulong(number), 0, 0, 0) < 0:
            number_of_error = ctypes.get_errno()
            raise OSError(number_of_error, os.strerror(number_of_error), f"capability {number}")


def run_attached(arguments: Sequence[str]) -> int:
    """Run a program on the caller's terminal until it ends, and return its exit code.

    The program gets the terminal's input. It is killed if this process ends. Raises ProcessError
    if it cannot be started.
    """

    def start() -> NoReturn:
        _die_with_parent()
        _start(arguments, os.environ)

    return _waited(arguments[0], lambda _says: start())


def run_inside(
    arguments: Sequence[str], environment: Mapping[str, str], become: Callable[[], None]
) -> int:
    """As `run_attached`, in namespaces of its own.

    `become` is called in the first process of its PID namespace before it starts. All processes
    there end with the program.
    """
    # Not from the one who reads the other end of a pipe, and not from behind somebody's back.
    has_terminal = os.isatty(0) and os.isatty(1) and os.tcgetpgrp(0) == os.getpgrp()

    def start() -> NoReturn:
        if has_terminal:
            os.setpgid(0, 0)
            _take_terminal()
            signal.signal(signal.SIGTSTP, signal.SIG_IGN)  # nobody here would continue it
        _start(arguments, environment)

    try:
        return _waited(arguments[0], lambda says: _outside(become, start, says))
    finally:
        if has_terminal:
            _take_terminal()


def _start(arguments: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
    for number in map(int, os.listdir("/proc/self/fd")):
        # What this process was started with may lead to another root.
        if number > 2:
            with suppress(OSError):  # that of the listing is gone
                os.set_inheritable(number, False)
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    os.execvpe(arguments[0], list(arguments), dict(environment))  # noqa: S606 - no shell


def _waited(name: str, work: Callable[[int], int]) -> int:
    """Do the work in a child, and return its exit code. Raises ProcessError with what it says.

    The work gets the descriptor to say that with.
    """
    failed, says = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        _end(says, lambda: work(says))
    os.close(says)
    try:
        with _typed_for_another(), open(failed, encoding="utf-8") as file:
            reason = file.read()
            status = os.waitpid(child, 0)[1]
    except BaseException:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    if reason:
        raise ProcessError(f"cannot start {name}: {reason}")
    return _exit_code(status)


def _exit_code(status: int) -> int:
    """Return what a shell would: 128 and the number of the signal that ended a program."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


@contextmanager
def _typed_for_another() -> Iterator[None]:
    """Leave what Ctrl-C and Ctrl-\\ send to another process on the same terminal."""
    numbers = (signal.SIGINT, signal.SIGQUIT)
    before = [signal.signal(number, signal.SIG_IGN) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before):
            signal.signal(number, handler)


def _outside(become: Callable[[], None], start: Callable[[], NoReturn], says: int) -> int:
    """Be the process that makes the namespaces; returns the exit code of the first in them."""
    _die_with_parent()
    # Host name, IPC and mounts are its own, and PIDs those of its children.
    _unshare(_ALL_NAMESPACES)
    first = os.fork()
    if first == 0:
        _end(says, lambda: _first(become, start, says))
    os.close(says)
    with _typed_for_another():
        return _exit_code(os.waitpid(first, 0)[1])


def _first(become: Callable[[], None], start: Callable[[], NoReturn], says: int) -> int:
    """Be the first process there, to which all come whose parents have ended."""
    _die_with_parent()
    become()
    program = os.fork()
    if program == 0:
        _end(says, start)
    os.close(says)
    with _typed_for_another():
        while True:
            ended, status = os.wait()
            if ended == program:
                return _exit_code(status)


def _end(says: int, work: Callable[[], int]) -> NoReturn:
    """Do the work of a process that was forked, and end it: it is no second fs-rollback."""
    code = 1
    try:
        code = work()
    except (OSError, Error) as error:  # told to who waits
        os.write(says, str(error).encode("utf-8", "replace"))
    finally:
        os._exit(code)


def _take_terminal() -> None:
    """Have what is typed at a terminal go to the process group of this process."""
    before = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    try:
        os.tcsetpgrp(0, os.getpgrp())
    finally:
        signal.signal(signal.SIGTTOU, before)


def _check(result: int, path: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
