# SPDX-License-Identifier: GPL-2.0-or-later
"""What --debug shows while a command runs: each program that it starts, each change to the disk.

Python itself tells of these, in its audit events, and system/linux of what it asks the kernel for.
Nobody listens without --debug, and then they cost next to nothing.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

_CHANGED = "fs-rollback.changed"  # system/linux: the verb, then what it is about
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_VERBS = {
    "os.rename": "rename",
    "os.remove": "remove",
    "os.rmdir": "remove directory",
    "os.mkdir": "make directory",
    "os.link": "link",
    "os.symlink": "link",
    "os.chmod": "change mode",
    "os.chown": "change owner",
    "os.setxattr": "set attribute",
    "os.removexattr": "remove attribute",
    "os.truncate": "truncate",
}
_OPENED = re.compile(r"/proc/self/fd/\d+")
_TWO_PATHS = ("os.rename", "os.link")


@contextmanager
def shown() -> Iterator[None]:
    """Say on standard error, a line each, what is started and changed inside."""
    is_on = True

    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        if is_on:
            with suppress(Exception):  # it would keep what it tells of from being done
                text = _told(event, arguments)
                if text:
                    print(f"fs-rollback: debug: {text}", file=sys.stderr)

    sys.addaudithook(hear)  # for ever: there is no way to take it off
    try:
        yield
    finally:
        is_on = False


def _told(event: str, arguments: Sequence[Any]) -> str:
    """Return an event in words, "" if it is nothing that changes the disk or starts a program."""
    from ..report import clean, command_line

    if event == "subprocess.Popen":
        return f"run {command_line([os.fsdecode(word) for word in arguments[1]])}"
    if event == _CHANGED:
        return clean(" ".join(_place(str(word)) for word in arguments))
    if event == "open":
        path, _, flags = arguments
        writes = flags & _WRITES and not flags & os.O_PATH and path != os.devnull
        return clean(f"write {_place(path)}") if writes else ""
    verb = _VERBS.get(event)
    if verb is None:
        return ""
    if event in _TWO_PATHS:
        old, new, old_directory, new_directory = arguments
        return clean(f"{verb} {_place(old, old_directory)} to {_place(new, new_directory)}")
    # The directory comes last, where there can be one.
    directory = arguments[-1] if event not in ("os.setxattr", "os.removexattr") else -1
    if event == "os.symlink":
        return clean(f"{verb} {_place(arguments[1], directory)} to {os.fsdecode(arguments[0])}")
    return clean(f"{verb} {_place(arguments[0], directory)}")


def _place(path: Any, directory: Any = -1) -> str:
    """Return a path as people read it; of a descriptor, what that has open."""
    if isinstance(path, int):
        return os.readlink(f"/proc/self/fd/{path}")
    text = os.fsdecode(path)
    opened = _OPENED.match(text)  # a directory that is mounted nowhere, perhaps
    if opened:
        return os.path.normpath(os.readlink(opened[0]).rstrip("/") + text[opened.end() :] or "/")
    if isinstance(directory, int) and directory >= 0 and not text.startswith("/"):
        text = os.path.join(os.readlink(f"/proc/self/fd/{directory}"), text)
    return text
