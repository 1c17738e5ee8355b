# SPDX-License-Identifier: GPL-2.0-or-later
"""The directory in which copies are made before they are moved to their places.

This workplace is on the subvolume that the copies are for, and only root can enter it. A list in it
has each path, and the inode number of its copy before the exchange. After a killed restore, a later
run deletes what has such a number, as nobody else made that. Anything else in the place of a
copy was in the root before, and gets the name that it should have got.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Callable, NamedTuple

from ...errors import Error, KernelError, RefusedError, kernel_errors
from ..linux import durable, files, removal, syscalls
from ..machine.host import Host
from .paths import opened_parent, status_in

WORKPLACE = ".fs-rollback-restore"
COPIES = "new"
_LIST = "restore.json"
Write = Callable[[int, str, str], None]


class Move(NamedTuple):
    """A path of a snapshot, the place it is restored to, and the new name of the previous version.

    `kept` is "" if there is no previous version. `copy` is the inode number of the copy, 0 until
    the copy is complete.
    """

    path: str
    place: str
    kept: str
    copy: int = 0

    @property
    def in_workplace(self) -> str:
        """The path of its copy, relative to the workplace."""
        return f"{COPIES}/{self.path}"


@contextmanager
def opened(base: int, moves: Sequence[Move], write: Write) -> Iterator[int]:
    """Make the workplace in an open directory, and remove it with all the copies left in it.

    `write` is how its list is written, see `write_list`.
    """
    with kernel_errors("make", WORKPLACE):
        os.mkdir(WORKPLACE, 0o700, dir_fd=base)
    try:
        with _entered(base, WORKPLACE) as workplace:
            write_list(workplace, moves, write)
            with kernel_errors("make", f"{WORKPLACE}/{COPIES}"):
                os.mkdir(COPIES, 0o700, dir_fd=workplace)
            yield workplace
    finally:
        # What cannot be removed now is for the next run: if anything failed, an error says so.
        with suppress(Error):
            tidy_in(base, WORKPLACE)


def write_list(workplace: int, moves: Sequence[Move], write: Write) -> None:
    """Write down what is moved where, with durable.write_text or, on btrfs, for the next commit.

    That is enough there: what comes after it is in no earlier one. Raises KernelError.
    """
    text = json.dumps({"version": 1, "paths": [move._asdict() for move in moves]})
    write(workplace, _LIST, text)


@contextmanager
def at(tree: int, path: str) -> Iterator[str]:
    """Yield a path to something in an open tree; no link was followed."""
    with opened_parent(tree, path) as parent:
        yield f"/proc/self/fd/{parent}/{os.path.basename(path)}"


def put(base: int, workplace: int, move: Move) -> None:
    """Put a copy into its place in one step, then give the previous version its new name.

    Raises KernelError, with everything as it was.
    """
    with (
        kernel_errors("restore", f"/{move.path}"),
        at(base, move.place) as place,
        at(workplace, move.in_workplace) as copy,
    ):
        if not move.kept:
            syscalls.rename_to_free(copy, place)
            return
        syscalls.exchange(copy, place)
        try:
            with at(base, move.kept) as kept:
                syscalls.rename_to_free(copy, kept)
        except OSError:
            syscalls.exchange(copy, place)
            raise


def take_back(base: int, workplace: int, move: Move) -> None:
    """Undo `put`. Raises KernelError."""
    with (
        kernel_errors("undo the restore of", f"/{move.path}"),
        at(base, move.place) as place,
        at(workplace, move.in_workplace) as copy,
    ):
        if not move.kept:
            syscalls.rename_to_free(place, copy)
            return
        with at(base, move.kept) as kept:
            syscalls.exchange(kept, place)
            syscalls.rename_to_free(kept, copy)


def tidy(host: Host) -> list[str]:
    """Remove what a killed restore left in the root; returns what became of each of its paths.

    Needs the store's lock. Raises KernelError, and RefusedError where nobody knows what lies there.
    """
    with files.opened(host.path(host.root_subvolume.path)) as base:
        return tidy_in(base, f"/{WORKPLACE}")


def tidy_in(base: int, name: str) -> list[str]:
    """As `tidy`, for the workplace in an open directory, which people know by this name."""
    if status_in(base, WORKPLACE) is None:
        return []
    with _entered(base, name) as workplace:
        said = [_settle(base, workplace, move) for move in _read_list(workplace, name)]
        with kernel_errors("remove", f"{name}/{COPIES}"):
            if status_in(workplace, COPIES) is not None:  # the list is needed until they are gone
                removal.remove(f"/proc/self/fd/{workplace}/{COPIES}")
    with kernel_errors("remove", name):
        removal.remove(f"/proc/self/fd/{base}/{WORKPLACE}")
    return said


@contextmanager
def _entered(base: int, name: str) -> Iterator[int]:
    """Open the workplace in a directory; whoever owns that may have put something else there.

    Raises RefusedError then, and KernelError.
    """
    refused = RefusedError(f"{name} was not made by fs-rollback", hint="Move it away.")
    try:
        flags = os.O_RDONLY | os.O_DIRECTORY
        workplace = syscalls.open_in_root(base, WORKPLACE, flags, follow=False)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise refused from error
        raise KernelError("open", name, error) from error
    try:
        status = os.fstat(workplace)
        if status.st_uid != 0 or status.st_mode & 0o77:
            raise refused
        yield workplace
    finally:
        os.close(workplace)


def _read_list(workplace: int, name: str) -> list[Move]:
    text = files.read_in_tree(workplace, _LIST)
    if text is None:  # cut off before it was written, or after all else was removed
        others = set(os.listdir(workplace)) - {_LIST + durable.TEMPORARY}
        if others:
            raise RefusedError(
                f"{name} has no list of the files that an interrupted restore left there",
                hint=f"Check its contents (ls -la {name}), then move it away.",
            )
        return []
    try:
        data = json.loads(text)
        if data["version"] != 1:
            raise ValueError(f"version {data['version']}")
        return [Move(**row) for row in data["paths"]]
    except (ValueError, TypeError, KeyError) as error:
        raise RefusedError(
            f"{name}/{_LIST} cannot be read: {error}",
            hint=f"A newer fs-rollback may have written it. Check the contents of {name}, then move"
            " it away.",
        ) from error


def _settle(base: int, workplace: int, move: Move) -> str:
    """Give what was at a path its name, if its copy has taken its place; return how it stands."""
    there = status_in(workplace, move.in_workplace)
    if not move.copy or (there is not None and there.st_ino == move.copy):
        return f"/{move.place} is unchanged"
    if there is not None:
        with (
            kernel_errors("settle the restore of", f"/{move.place}"),
            at(workplace, move.in_workplace) as old,
            at(base, move.kept) as kept,
        ):
            syscalls.rename_to_free(old, kept)
    was = f", its previous version is now /{move.kept}" if move.kept else ""
    return f"/{move.place} was restored{was}"
