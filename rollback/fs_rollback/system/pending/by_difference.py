# SPDX-License-Identifier: GPL-2.0-or-later
"""Updates a kept path by changing only what differs, where no other process can reach it.

A path that is half changed must never be where others find it. So it is exchanged with a file that
says what is going on, into a directory that only root can enter, is changed there, and is exchanged
again. Whatever cuts that off leaves at the path either all of it or that file, and nobody can write
into a file as if it were the directory. So all that is changed in the directory was changed here,
and the next run goes on with it, however much later: what still differs is found anew. Where
that fails the directory is made again what a snapshot has from before.

How far it got is the name of a link in the staging place that leads to nothing, but has the path:
"NUMBER.begun" from before the first exchange on, "NUMBER.ready" when only the second one is left to
do, "NUMBER.undo" while it is made again what it was.

An exchange reserves more room for the metadata than a rename. Where there is too little for the
second one the file is moved to "NUMBER.aside" and the directory to its place; only then, and where
that is cut off until the next run, somebody can put something else there. That is not touched.
"""

from __future__ import annotations

import errno
import os
import shlex
from contextlib import suppress
from typing import NamedTuple, Optional

from ...core.comparison.mirror import Edits
from ...core.progress import Watch
from ...core.rollback.operations import Operations
from ...core.rollback.steps import join
from ...core.snapshots.snapshot import STAGING
from ...core.space.headroom import METADATA
from ...errors import Error, KernelError, PathAwayError, StoreError, UndoFailedError, kernel_errors
from ..execute import arrivals, executor, kept
from ..execute.arrivals import ASIDE, BEGUN, READY, STAND_IN, UNDO, Path
from ..linux import btrfs
from ..machine.host import Host
from ..space import room as rooms
from . import staging

_BEFORE = f"{STAGING}/before"
# What a change may need: a block of metadata (16 KiB) for the inode, one for its directory, and
# both once more if it is taken back; for all of them no more than all that there is, once more.
_CHANGE_BYTES = 4 * (16 << 10)
_LEAST_BYTES = 16 << 20


class Workplace(NamedTuple):
    """The new root, by its path from the top level, what changes it, and who watches."""

    host: Host
    operations: Operations
    root: str
    watch: Watch


def bring(work: Workplace, source: str, path: Path) -> bool:
    """Make a path as it is in `source`, a snapshot of the old root that was just made.

    Returns False, and has done nothing, where it cannot be told what differs, or where there may be
    no room for the metadata. Raises PathAwayError where the path is not at its place, and any
    other Error where all is as before.
    """
    _forget_earlier_run(work, path)
    wanted = kept.difference(work.host, source, work.root, [path.path])
    if wanted.edits.whole or not _has_room(work.host, wanted.edits):
        return False
    if not wanted.edits.steps:  # it was only read, or it is a file that is the same
        return True
    with executor.signals_held_back():  # it takes the time of what has changed
        try:
            _take_away(work, path)
        except Error as error:
            if arrivals.has_stand_in(work.host, work.root, path):  # exchanged all the same
                _take_back(work, path, error)
            raise
        _go_on(work, source, path, wanted)
    return True


def away(host: Host, root: str) -> list[str]:
    """Return the paths, from the root, that an interrupted run left out of their places."""
    paths = (path for path, _ in arrivals.marks(host, root))
    return [path.path for path in paths if arrivals.is_away(host, root, path)]


def finish(work: Workplace, source: Optional[str]) -> list[str]:
    """Finish what a run was cut off at; returns in words what was made again what it was.

    `source` is as above, None if there is no old root. Raises PathAwayError.
    """
    problems = []
    with executor.signals_held_back():
        for path, mark in [*arrivals.marks(work.host, work.root)]:
            if not arrivals.is_away(work.host, work.root, path):
                continue
            if mark == READY:
                _put_back(work, path)
            elif not _has_before(work.host, work.root):
                _put_back(work, path)  # this root is a copy of the one that was cut off
                problems.append(f"/{path.path} may contain only part of what the old root wrote")
            elif mark == BEGUN and source is not None:
                try:
                    _go_on(work, source, path)
                except UndoFailedError:
                    raise
                except Error as error:  # as promised: in words
                    problems.append(f"/{path.path} was not copied to the new root: {error}")
            else:
                _take_back(work, path, StoreError("it was interrupted"))
                problems.append(f"/{path.path} is again as it was before the interrupted copy")
    return problems


def came_along(host: Host, root: str, path: Path) -> Optional[bool]:
    """Whether an earlier run has brought a path over, None if it did not try like this.

    A mark that came with a copy of another root tells nothing of this one: there is no snapshot
    from before then, or the number is that of another path.
    """
    found = [(of, mark) for of, mark in arrivals.marks(host, root) if of.number == path.number]
    if not found:
        return None
    return (path, READY) in found and _has_before(host, root)


def _has_room(host: Host, edits: Edits) -> bool:
    found = rooms.read(host)
    used = sum(group.used for group in found.groups if group.flags & METADATA)
    needed = _LEAST_BYTES + min(edits.steps * _CHANGE_BYTES, used)
    return found.free(METADATA) + found.growth(METADATA) >= needed


def _forget_earlier_run(work: Workplace, path: Path) -> None:
    """Remove what one has left of a path that is at its place: whoever copies all makes no marks.

    With marks, the copy that is made in the staging place would be taken for the path itself.
    """
    with kernel_errors("write to", f"/{STAGING}"):
        for mark in (BEGUN, READY, UNDO, ASIDE):
            with suppress(FileNotFoundError):  # no earlier run
                os.unlink(_mark(work, path, mark))


def _take_away(work: Workplace, path: Path) -> None:
    """Exchange a path with the file that stands there meanwhile."""
    place = staging.make(work.host, work.root, path.number)
    if not _has_before(work.host, work.root):  # or an earlier run has begun with another path
        work.operations.snapshot(work.root, join(work.root, _BEFORE), read_only=True)
    work.operations.make_room(work.root, place, path.path)
    file = work.host.path(join(place, path.path))
    with kernel_errors("write", file):
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with os.fdopen(os.open(file, flags, 0o444), "wb") as opened:
            opened.write(STAND_IN)
    with kernel_errors("write to", f"/{STAGING}"):
        os.symlink(path.path, _mark(work, path, BEGUN))
    work.operations.sync()
    work.operations.exchange(join(place, path.path), join(work.root, path.path))


def _go_on(
    work: Workplace, source: str, path: Path, wanted: Optional[kept.Difference] = None
) -> None:
    """Change a path that was taken away and put it back. Raises as `bring` does."""
    try:
        _change(work, source, path, wanted)
        with kernel_errors("write to", f"/{STAGING}"):
            os.rename(_mark(work, path, BEGUN), _mark(work, path, READY))
        work.operations.sync()
    except Exception as error:
        _take_back(work, path, error)
        raise
    _put_back(work, path)


def _change(
    work: Workplace, source: str, path: Path, wanted: Optional[kept.Difference] = None
) -> None:
    place = staging.of(work.root, path.number)
    if wanted is None:
        work.operations.sync()  # what is not on the disk does not show
        inside = f"{STAGING}/{path.number}"
        wanted = kept.difference(work.host, source, work.root, [path.path], inside)
    if wanted.edits.whole:
        raise StoreError(f"cannot determine how /{join(place, path.path)} differs from /{source}")
    with work.watch(f"copying changes to /{path.path}", "files") as told:
        kept.make(work.host, source, place, wanted, told)


def _take_back(work: Workplace, path: Path, cause: Exception) -> None:
    """Make a path that was taken away what it was, and put it back."""
    try:
        with kernel_errors("write to", f"/{STAGING}"):
            for mark in (BEGUN, READY):
                with suppress(FileNotFoundError):  # it is the other one
                    os.rename(_mark(work, path, mark), _mark(work, path, UNDO))
        _change(work, join(work.root, _BEFORE), path)
        work.operations.sync()
    except Error as error:
        raise _unfinished(path, f"{error} after: {cause}") from error
    _put_back(work, path)


def _put_back(work: Workplace, path: Path) -> None:
    """Bring a path back to its place. Raises PathAwayError."""
    ours, there = (join(work.root, place) for place in (path.moved, path.path))
    try:
        if arrivals.has_stand_in(work.host, work.root, path):
            try:
                work.operations.exchange(ours, there)
                return
            except KernelError as error:  # without room for it two renames do
                if error.errno != errno.ENOSPC:
                    raise
            _rename_back(work, ours, there, join(work.root, path.link(ASIDE)))
        else:
            work.operations.rename(ours, there)
    except Error as error:
        is_taken = isinstance(error, KernelError) and error.errno == errno.EEXIST
        raise (_taken(path) if is_taken else _unfinished(path, str(error))) from error


def _rename_back(work: Workplace, ours: str, there: str, aside: str) -> None:
    """Bring a path back by two renames: there is nothing at the path for a moment."""
    work.operations.rename(there, aside)
    try:
        work.operations.rename(ours, there)
    except Error:
        with suppress(Error):  # what is raised says where the path is, with it or without
            work.operations.rename(aside, there)
        raise


def _unfinished(path: Path, why: str) -> PathAwayError:
    return PathAwayError(
        f"/{path.path} could neither be updated nor put back in place: {why}; it is in"
        f" /{STAGING}/{path.number}, and nothing is lost",
        commands=[
            "fs-rollback list --size   # if metadata space is short: shows what frees most",
            "fs-rollback delete ID     # delete some of them",
            "fs-rollback settle        # after you have made room or fixed the cause",
        ],
    )


def _taken(path: Path) -> PathAwayError:
    there = shlex.quote(f"/{path.path}")
    aside = shlex.quote(f"/{path.path}.meanwhile")
    return PathAwayError(
        f"/{path.path} could not be put back because something else is there now; the original is"
        f" in /{STAGING}/{path.number}, and nothing is lost",
        commands=[f"mv -T {there} {aside}", "fs-rollback settle"],
    )


def _mark(work: Workplace, path: Path, mark: str) -> str:
    return work.host.path(join(work.root, path.link(mark)))


def _has_before(host: Host, root: str) -> bool:
    """Whether there is a snapshot from before the first exchange: in a copy of the root is none."""
    return btrfs.is_subvolume(host.path(join(root, _BEFORE)))
