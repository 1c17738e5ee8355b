# SPDX-License-Identifier: GPL-2.0-or-later
"""What the first boot of a new root leaves in it when it is cut off: system/pending says more.

A kept path that is changed lies in the staging place, in the directory NUMBER, and a file stands
at its place. How far that got is the name of a link there that leads to nothing, but has the path:
"NUMBER.begun", "NUMBER.ready" or "NUMBER.undo". "NUMBER.aside" is the file that stood at the path,
where it had to be moved before the path could come back.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

from ...core.rollback.steps import join
from ...core.snapshots.snapshot import STAGING
from ...errors import kernel_errors
from ..linux import files
from ..machine.host import Host

BEGUN, READY, UNDO, ASIDE = "begun", "ready", "undo", "aside"
STAND_IN = f"""\
'fs-rollback settle' copies what the old root wrote to this path. Until that
is done, everything that was here is in /{STAGING}.
""".encode()


class Path(NamedTuple):
    """A kept path, from the root; `number` is that of its directory in the staging place."""

    number: int
    path: str

    @property
    def moved(self) -> str:
        """Where it lies, from the root, while it is changed."""
        return f"{STAGING}/{self.number}/{self.path}"

    def link(self, mark: str) -> str:
        """Return the path, from the root, of what tells how far it got."""
        return f"{STAGING}/{self.number}.{mark}"


def marks(host: Host, root: str) -> Iterator[tuple[Path, str]]:
    """Give what earlier runs have begun, and how far they got. Raises KernelError."""
    with files.opened(host.path(root)) as tree:
        for name in files.list_in_tree(tree, STAGING) or ():
            number, _, mark = name.partition(".")
            if mark in (BEGUN, READY, UNDO):
                link = host.path(join(root, f"{STAGING}/{name}"))
                with kernel_errors("read", link):
                    yield Path(int(number), os.readlink(link)), mark


def is_away(host: Host, root: str, path: Path) -> bool:
    """Whether a path with a mark is in the staging place, and not at its own.

    The file stands there meanwhile. Where that was moved aside, or somebody has removed it, there
    is nothing, or what was put there since.
    """
    with files.opened(host.path(root)) as tree:
        if _is_stand_in(tree, path.path):
            return True
        return _is_there(tree, path.moved) and not _is_stand_in(tree, path.moved)


def has_stand_in(host: Host, root: str, path: Path) -> bool:
    """Whether the file that says what is going on is at a path."""
    with files.opened(host.path(root)) as tree:
        return _is_stand_in(tree, path.path)


def _is_stand_in(tree: int, path: str) -> bool:
    with files.regular_file(tree, path) as file:
        return file is not None and os.read(file, len(STAND_IN) + 1) == STAND_IN


def _is_there(tree: int, path: str) -> bool:
    """Whether anything is at a path; a link on the way to it is not followed."""
    above, name = os.path.split(path)
    return name in (files.list_in_tree(tree, above or ".") or ())
