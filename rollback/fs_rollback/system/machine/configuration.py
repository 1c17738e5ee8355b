# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads fs-rollback.conf of a tree: the one reader, for the plugins and for every command."""

from __future__ import annotations

import os
import stat

from ... import config
from ...config import BrokenConfigError, Config
from ...errors import KernelError
from ..linux import files

_MOST_BYTES = 1 << 20
_NULL = os.makedev(1, 3)  # what systemd.unit(5) calls a masked file leads there


def read(tree: int) -> Config:
    """Return the configuration of a tree, an open directory; the defaults where it has none.

    No symbolic link leads out of the tree. Raises BrokenConfigError, whose `usable` is what could
    be read, also where there is something that cannot be read at all.
    """
    try:
        data = _content(tree)
    except KernelError as error:
        raise _unusable(str(error), error.hint) from error
    if len(data) <= _MOST_BYTES:
        return config.parse(config.decoded(data), config.PATH)
    whole_lines = data[: data.rfind(b"\n", 0, _MOST_BYTES) + 1]
    raise BrokenConfigError(
        f"{config.PATH} is larger than {_MOST_BYTES >> 10} KiB",
        hint="Write only settings and comments into it.",
        usable=_usable(whole_lines),
    )


def usable(root: str = "/") -> tuple[Config, BrokenConfigError | None]:
    """Return the usable part of the configuration of a root, and what is wrong with it.

    For callers that must not fail because of a typing error: raises nothing.
    """
    try:
        with files.opened(root) as tree:
            return read(tree), None
    except BrokenConfigError as error:  # returned, for who must not fail over it
        return error.usable, error
    except KernelError as error:  # likewise; nothing is known of what is set
        return Config(), _unusable(str(error), error.hint)


def _usable(data: bytes) -> Config:
    try:
        return config.parse(config.decoded(data), config.PATH)
    except BrokenConfigError as error:  # its caller raises one that says more
        return error.usable


def _content(tree: int) -> bytes:
    """Return the bytes of the file, b"" where there is none. Raises KernelError, BrokenConfigError.

    A link that leads nowhere is none, as for whoever opens it. What is there and is no file is not
    passed over: somebody wanted something with it.
    """
    status = files.status_of(tree, config.PATH)
    if status is None or status.st_rdev == _NULL:
        return b""
    if not stat.S_ISREG(status.st_mode):
        raise _unusable(f"{config.PATH} is not a file")
    if others_write(status):
        raise _unusable(
            f"{config.PATH} can be changed by others than root",
            "Look at what it says, then make it root's: 'chown root:root' and 'chmod go-w'.",
        )
    return files.read_bytes(tree, config.PATH, _MOST_BYTES + 1)


def others_write(status: os.stat_result) -> bool:
    """Whether others than root can write to a file or directory, as its owner and mode have it."""
    by_group = status.st_mode & stat.S_IWGRP and status.st_gid != 0
    return bool(status.st_uid != 0 or status.st_mode & stat.S_IWOTH or by_group)


def _unusable(message: str, hint: str = "") -> BrokenConfigError:
    return BrokenConfigError(message, hint=hint or "Correct or remove it.", usable=Config())
