# SPDX-License-Identifier: GPL-2.0-or-later
"""The first boot of a new root: brings over what was written in the old one since the rollback.

Between a rollback and its reboot the old root goes on running. What it wrote to the paths to keep,
and to the subvolumes that were carried over, is brought over before anything that writes there is
started: a path by what has changed in it (by_difference.py). Where that cannot be told, and where
subvolumes or swap files are in it, all is copied in a directory that only root can enter, and
exchanged with what is there in one atomic step.

A path that the new root has written to is never touched. That is read from the generations in the
filesystem, not from a flag: so whatever kept this from running at the first boot, a kill, an
emergency shell, a unit that was not there, no later boot overwrites anything. Nor does a power cut
need a journal of its own: a path that was exchanged is newer than the rollback, and what it was
exchanged with stays in the directory until all are done.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timezone
from typing import NamedTuple

from ...core.formats import mountinfo
from ...core.formats.mountinfo import is_within
from ...core.progress import Watch, unwatched
from ...core.rollback.journal import Pending
from ...core.rollback.operations import Operations
from ...core.rollback.steps import join
from ...core.snapshots.record import parse_time
from ...core.snapshots.snapshot import STAGING, STORE, Subvolume
from ...errors import Error, UndoFailedError, kernel_errors
from ..execute.arrivals import Path
from ..linux import btrfs, files, syscalls
from ..machine import changed_since
from ..machine.host import Host, mounts_of_all
from ..store import trace
from . import by_difference, staging
from .by_difference import Workplace

_MARGIN_S = 24 * 3600.0


class Part(NamedTuple):
    """What is brought over in one step: a kept path, or a carried subvolume.

    `path` and `nested`, the subvolumes of the old root in it (itself too, parents first), are from
    the root. `number` names its directory while it is made, the same at each try.
    """

    number: int
    path: str
    nested: tuple[str, ...]
    is_subvolume: bool


class Arrival(NamedTuple):
    """What is to be done: `parts` to bring over, `done` ones that an earlier try has exchanged.

    `swap` are the swap files that a copy of must be made anew.
    """

    old: Subvolume
    new: Subvolume
    frozen: str
    parts: tuple[Part, ...]
    done: tuple[Part, ...]
    problems: tuple[str, ...]
    swap: tuple[str, ...] = ()


def decide(host: Host, journal: Pending, new: Subvolume) -> Arrival | None:
    """Return what to copy to the new root; None if that is unknown, or if there is nothing.

    An older program's journal has no generation to tell what the new root has written; an old root
    that was deleted has nothing left. Raises KernelError.
    """
    old = host.by_uuid(journal.old_uuid)
    if old is None or not journal.generation:
        return None
    keep = [path.lstrip("/") for path in journal.roots.kept]
    carried = journal.roots.carried
    after_s = _last_change_that_cannot_be(journal)
    stale = _stale_paths(host, old, new, keep, after_s)
    parts: list[Part] = []
    for number, path in enumerate((*keep, *carried)):
        if any(is_within(path, part.path) for part in parts):
            continue
        is_subvolume = number >= len(keep)
        if path in stale or (is_subvolume and _is_stale_subvolume(host, old, new, path, after_s)):
            nested = _nested(host, old, new, path, carried)
            parts.append(Part(number, path, nested, is_subvolume))
    arrival = Arrival(old, new, journal.roots.frozen, (), (), (), journal.roots.swap)
    return _sorted_out(host, journal, arrival, parts)


def _sorted_out(host: Host, journal: Pending, arrival: Arrival, parts: list[Part]) -> Arrival:
    """Tell what to bring from what an earlier try has brought and what must not be touched."""
    new, since = arrival.new, journal.generation
    paths = [part.path for part in parts]
    written = changed_since.touched(host, new.path, since, paths)
    shown = _shown(host) if parts else ()
    doing, done, problems = [], [], list(arrival.problems)
    for part in parts:
        inside = (s for s in host.subvolumes if is_within(s.path, join(new.path, part.path)))
        if part.path in written or any(
            changed_since.is_touched(host, s.path, since) for s in inside
        ):
            came = by_difference.came_along(host, new.path, Path(part.number, part.path))
            if came is None:
                came = os.path.lexists(host.path(staging.of(new.path, part.number)))
            if came:
                done.append(part)
            else:
                problems.append(f"the new root has already changed /{part.path}; {where(journal)}")
        elif _is_in_use(host, new, part, shown):
            problems.append(f"/{part.path}, or something in it, is mounted; {where(journal)}")
        else:
            doing.append(part)
    return arrival._replace(parts=tuple(doing), done=tuple(done), problems=tuple(problems))


def _stale_paths(
    host: Host, old: Subvolume, new: Subvolume, keep: list[str], after_s: float
) -> set[str]:
    """Return the kept paths that the old root has changed since the new one was made of it."""
    # The new root was made right before the copies: what is not newer than it is in them.
    reads = changed_since.Reads(new.path, after_s)
    found = changed_since.touched_or_moved(host, old.path, new.born, keep, reads)
    return found | {p for p in keep if _type(host, old.path, p) != _type(host, new.path, p)}


def _is_stale_subvolume(
    host: Host, old: Subvolume, new: Subvolume, path: str, after_s: float
) -> bool:
    by_path = {subvolume.path: subvolume for subvolume in host.subvolumes}
    original, copy = by_path.get(join(old.path, path)), by_path.get(join(new.path, path))
    if original is None or copy is None:
        return original is not copy
    reads = changed_since.Reads(copy.path, after_s)
    return changed_since.is_touched(host, original.path, copy.born, reads)


def _last_change_that_cannot_be(journal: Pending) -> float:
    """Return a time (seconds since 1970) that no change since the rollback can have.

    What is newer in the filesystem and has an earlier time was only read, most likely. Times follow
    the clock, which may have been set back: so the margin, and the clock of this boot counts too.
    """
    made = parse_time(journal.created).timestamp()
    return min(made, datetime.now(timezone.utc).timestamp()) - _MARGIN_S


def _nested(
    host: Host, old: Subvolume, new: Subvolume, path: str, carried: Sequence[str]
) -> tuple[str, ...]:
    """Return the old root's subvolumes at and in a path: those carried over, and newer ones."""
    place = join(old.path, path)
    inside = [s for s in host.subvolumes if is_within(s.path, place)]
    paths = {s.path[len(old.path) :].strip("/"): s for s in inside}
    return tuple(sorted(p for p, s in paths.items() if p in carried or s.born > new.born))


def _type(host: Host, tree: str, path: str) -> int:
    """Return the type of a file (stat.S_IFMT), 0 where there is none or a link leads to it."""
    with files.opened(host.path(tree)) as root, kernel_errors("access", f"/{join(tree, path)}"):
        try:
            flags = os.O_PATH | os.O_NOFOLLOW
            descriptor = syscalls.open_in_root(root, path, flags, follow=False)
        except (FileNotFoundError, NotADirectoryError):  # as promised
            return 0
        try:
            return stat.S_IFMT(os.fstat(descriptor).st_mode)
        finally:
            os.close(descriptor)


def _shown(host: Host) -> tuple[mountinfo.Mount, ...]:
    """Return what is mounted for any process: a line of fstab, or a service, may be early."""
    return mounts_of_all() if host.is_running else host.mounts


def _is_in_use(host: Host, new: Subvolume, part: Part, mounts: Sequence[mountinfo.Mount]) -> bool:
    """Whether a part, or something in it, is mounted anywhere, or something is mounted in it."""
    place = "/" + join(new.path, part.path)
    point = f"{host.root.rstrip('/')}/{part.path}"
    return any(
        (m.device == host.mount.device and is_within(m.root, place)) or is_within(m.point, point)
        for m in mounts
    )


def left_behind(host: Host, journal: Pending, new: Subvolume, operations: Operations) -> list[str]:
    """Return sentences on what `bring_over` would copy, or could not: only the old root has it."""
    try:
        operations.sync()  # generations are read from the disk
        arrival = decide(host, journal, new)
    except Error as error:  # said as unknown
        return [f"cannot determine what changed before the reboot: {error}; {where(journal)}"]
    if arrival is None:
        return _untold(host, journal)
    paths = ", ".join("/" + part.path for part in arrival.parts)
    left = [f"not copied from the old root: {paths}; {where(journal)}"] if paths else []
    return [*left, *arrival.problems]


def _untold(host: Host, journal: Pending) -> list[str]:
    """Say that a journal of an older program does not tell what was written since."""
    there = any(s.uuid == journal.old_uuid for s in host.subvolumes)
    paths = ", ".join(journal.roots.kept)
    if not there or journal.generation or not paths:
        return []
    return [f"cannot determine what changed in {paths} since the rollback; {where(journal)}"]


def finish(
    host: Host, journal: Pending, new: Subvolume, operations: Operations, watch: Watch = unwatched
) -> list[str]:
    """Finish what an interrupted run left: a path that is not in its place.

    Returns problems as sentences. Raises UndoFailedError if the path cannot be put back.
    """
    work = Workplace(host, operations, new.path, watch)
    if not by_difference.away(host, new.path):
        return []
    old, image = host.by_uuid(journal.old_uuid), None
    if old is not None:
        with suppress(Error):  # without it the path is made again what it was
            image = _image(old, journal.roots.frozen, operations)
    problems = by_difference.finish(work, image)
    if image is not None:
        operations.delete(image)
    return [f"{problem}; {where(journal)}" for problem in problems]


def _image(old: Subvolume, frozen: str, operations: Operations) -> str:
    """Freeze the old root, to be copied from: its subvolumes are empty in there."""
    operations.delete(frozen)
    operations.snapshot(old.path, frozen, read_only=True)
    return frozen


def bring_over(
    host: Host, journal: Pending, new: Subvolume, operations: Operations, watch: Watch = unwatched
) -> tuple[tuple[str, ...], list[str]]:
    """Copy what has changed to the new root; returns the paths, and problems as sentences.

    `watch` may show how many of the changes of each path are done. Raises UndoFailedError where a
    path is not at its place any more.
    """
    try:
        operations.sync()  # generations are read from the disk
        problems = finish(host, journal, new, operations, watch)
        arrival = decide(host, journal, new)
    except UndoFailedError:
        raise
    except Error as error:  # as promised: in words
        return (), [f"nothing was copied to the new root: {error}; {where(journal)}"]
    if arrival is None:
        return (), [*problems, *_untold(host, journal)]
    problems += arrival.problems
    brought = [*arrival.done]
    for part in arrival.parts:
        try:
            staging.discard(host, operations, new.path, f"{STAGING}/{part.number}")
            _bring(arrival, part, Workplace(host, operations, new.path, watch))
            brought.append(part)
        except UndoFailedError:
            raise
        except Error as error:  # the old root has it still; the other parts are brought
            problems.append(
                f"/{part.path} was not copied to the new root: {error}; {where(journal)}"
            )
            problems += _discarded(host, operations, arrival, part)
    if arrival.frozen:
        operations.delete(arrival.frozen)
    problems += _sealed(host, journal, arrival, operations)
    paths = tuple("/" + part.path for part in brought)
    if paths:
        why = ", ".join(paths)
        trace.tell(host, trace.Event("brought-over", journal.target, reason=why))
    if problems:
        trace.tell(host, trace.Event("failed", journal.target, reason="; ".join(problems)))
    return paths, problems


def _bring(arrival: Arrival, part: Part, work: Workplace) -> None:
    """Bring one part to its place, or take away what the old root has lost."""
    host, operations = work.host, work.operations
    if not _type(host, arrival.old.path, part.path):
        tree = staging.make(host, work.root, part.number)
        present = join(work.root, part.path)
        operations.set_read_only(present, read_only=False)  # or it cannot leave its directory
        operations.rename(present, join(tree, "gone"))
    elif part.is_subvolume:
        _exchange(arrival, part, work)
    else:
        image = _image(arrival.old, arrival.frozen, operations)
        path = Path(part.number, part.path)
        if not (_is_plain(host, arrival, part) and by_difference.bring(work, image, path)):
            _exchange(arrival, part, work)
    host.forget()


def _is_plain(host: Host, arrival: Arrival, part: Part) -> bool:
    """Whether a path has neither subvolumes nor swap files in it."""
    places = [join(root.path, part.path) for root in (arrival.old, arrival.new)]
    inside = any(is_within(s.path, place) for s in host.subvolumes for place in places)
    return not inside and not any(is_within(path, part.path) for path in arrival.swap)


def _exchange(arrival: Arrival, part: Part, work: Workplace) -> None:
    """Make a fresh copy of one part and put it in its place."""
    host, operations = work.host, work.operations
    tree = staging.make(host, work.root, part.number)
    fresh, present = join(tree, part.path), join(work.root, part.path)
    _make_copy(arrival, part, operations)
    # What is exchanged has to be on the disk: a power cut must not leave half of it there.
    operations.sync()
    # Never exchanged with a stand-in of a nested subvolume: the kernel aborts at that.
    if _type(host, work.root, part.path) and not btrfs.is_stub(host.path(present)):
        # A read-only subvolume cannot leave its directory.
        operations.set_read_only(present, read_only=False)
        operations.exchange(fresh, present)
    else:
        operations.make_room(arrival.old.path, work.root, part.path)
        operations.rename(fresh, present)


def _make_copy(arrival: Arrival, part: Part, operations: Operations) -> None:
    old, tree = arrival.old.path, staging.of(arrival.new.path, part.number)
    if not part.is_subvolume:
        operations.copy(arrival.frozen, tree, part.path)
    for path in part.nested:
        operations.make_room(old, tree, path)
        operations.snapshot(join(old, path), join(tree, path), read_only=False)
    for path in arrival.swap:
        if is_within(path, part.path):
            operations.renew_swap(tree, path)


def _sealed(host: Host, journal: Pending, arrival: Arrival, operations: Operations) -> list[str]:
    """Make read-only in the new root what is so in the old one; returns what could not be.

    An earlier try may have been cut off right before this.
    """
    problems = []
    sealed = {s.path for s in host.subvolumes if s.read_only}
    nested = {path for part in (*arrival.parts, *arrival.done) for path in part.nested}
    for path in sorted({*nested, *journal.roots.carried}, reverse=True):
        original, copy = join(arrival.old.path, path), join(arrival.new.path, path)
        if original in sealed and copy not in sealed:
            try:
                operations.set_read_only(copy, read_only=True)
            except Error as error:  # as promised: in words
                problems.append(f"/{path} could not be made read-only: {error}")
    return problems


def _discarded(host: Host, operations: Operations, arrival: Arrival, part: Part) -> list[str]:
    """Remove what was made of a part that failed; returns why it could not be."""
    try:
        staging.discard(host, operations, arrival.new.path, f"{STAGING}/{part.number}")
        if not part.is_subvolume:
            operations.delete(arrival.frozen)
    except Error as error:  # as promised; the next run removes it
        return [str(error)]
    return []


def where(journal: Pending) -> str:
    """Return a phrase on where the changes that were not copied still are."""
    place = f"/{STORE}/{journal.roots.replaced}"
    if journal.roots.in_top_level:
        place = "the top level (subvolume ID 5)"
    return f"changes made there between the rollback and the reboot are in {place}"
