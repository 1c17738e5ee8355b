# SPDX-License-Identifier: GPL-2.0-or-later
"""Everything this program raises on purpose.

The message is one sentence (what, which, why), the hint says what to do next, and the exit code
tells the state of the machine:

0 done; 1 failed, machine as before; 2 usage or configuration; 3 refused, nothing touched;
4 needs hands; 130 interrupted and undone.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

_HINTS = {
    errno.ENOSPC: "A filesystem is full: 'df -h' shows which one.",  # make_room.py says more
    errno.EDQUOT: "A quota group limit is reached: see 'btrfs qgroup show -re /'.",
    errno.EROFS: "The filesystem is read-only; 'dmesg' may say why.",
    errno.EPERM: "Run this as root, with root's full capabilities.",
    errno.EACCES: "Run this as root: try again with sudo.",
    errno.ETXTBSY: "An active swap file lies in the subvolume: 'swapon --show' names it.",
    errno.EIO: "The device has errors: see 'dmesg' and 'btrfs device stats /'.",
}
# What the kernel shows in a file system of its own: what is always there, and what mounts it.
_OF_KERNEL = {
    "/proc": ("/proc/self", "mount -t proc proc /proc"),
    "/sys": ("/sys/kernel", "mount -t sysfs sysfs /sys"),
    "/dev": ("/dev/null", "mount -t devtmpfs devtmpfs /dev"),
}


class Error(Exception):
    """Base of all errors: what the user reads, what to do next, what a script gets.

    `message` may have further lines, indented; as a text the error is one line.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return _one_line(self.message)

    @property
    def line(self) -> str:
        """The message and the hint in one line."""
        return f"{self}. {_one_line(self.hint)}".rstrip()


def _one_line(text: str) -> str:
    """Join lines that this program has indented; a line feed of a file's name is none of them."""
    return text.replace(":\n  ", ": ").replace("\n  ", "; ")


class UsageError(Error):
    """The command line asks for something that does not exist or makes no sense."""

    exit_code = 2


class ConfigError(Error):
    """A configuration file cannot be used."""

    exit_code = 2


class RefusedError(Error):
    """The request cannot be carried out safely; nothing was changed."""

    exit_code = 3


class UnsupportedRootError(RefusedError):
    """No snapshots can be taken of this root: it is not btrfs, not a subvolume, or not mounted."""


class StoreError(Error):
    """The store, or a record in it, is not what it should be."""


class LockedError(Error):
    """Another process holds the store's lock."""


class KernelError(Error):
    """A system call failed. `errno` is the reason.

    If a file could not be written, `directory` is where it is, and `filesystem` is the UUID of the
    btrfs that has this directory, "" for another filesystem.
    """

    directory = ""
    filesystem = ""

    def __init__(self, doing: str, path: str, cause: OSError) -> None:
        self.errno = cause.errno or 0
        reason = os.strerror(self.errno) if self.errno else str(cause)
        hint = unmounted(path) or _HINTS.get(self.errno, "")
        super().__init__(f"cannot {doing} {path}: {reason}", hint=hint)


def unmounted(path: str) -> str:
    """Return what to mount where a path of the kernel's is missing, as in a chroot, else ""."""
    for place, (shows, command) in _OF_KERNEL.items():
        if path.startswith(f"{place}/") and not os.path.lexists(shows):
            return f"{place} is not mounted here. Run: {command}"
    return ""


class NotRootError(Error):
    """A user has run this who is not root."""


def require_root() -> None:
    """Raise NotRootError for anyone but root."""
    if os.geteuid() != 0:
        raise NotRootError("must be run as root", hint="Try again with sudo.")


@contextmanager
def kernel_errors(doing: str, path: str) -> Iterator[None]:
    """Turn an OSError that is raised inside into a KernelError."""
    try:
        yield
    except OSError as error:
        raise KernelError(doing, path, error) from error


class ProcessError(Error):
    """A program that was started failed."""


class VerificationError(Error):
    """The machine was read again, and is not as it should be."""


class InterruptedRunError(Error):
    """A signal stopped the work, and what had been done is undone."""

    exit_code = 130


class UndoFailedError(Error):
    """A step failed, and so did its undo: a person has to finish by hand."""

    exit_code = 4

    def __init__(self, message: str, *, commands: Sequence[str]) -> None:
        super().__init__(
            message,
            hint="The next run of fs-rollback tries again. To finish by hand, as root:\n  "
            + "\n  ".join(commands),
        )
        self.commands = tuple(commands)


class PathAwayError(UndoFailedError):
    """A kept path was not put back. Commands that free space may continue: that is the cure."""
