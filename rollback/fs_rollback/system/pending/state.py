# SPDX-License-Identifier: GPL-2.0-or-later
"""The time between a rollback and the reboot into its new root."""

from __future__ import annotations

import enum
import os
from typing import NamedTuple

from ...core.boot.layout import Kind, Statement
from ...core.formats.mountinfo import is_within
from ...core.rollback import wrong_root
from ...core.rollback.journal import Pending
from ...core.rollback.steps import join, mounted
from ...core.rollback.wrong_root import Explanation
from ...core.snapshots.names import labelled
from ...core.snapshots.record import parse_time
from ...core.snapshots.snapshot import Subvolume
from ...errors import Error, RefusedError, kernel_errors
from ..linux import syscalls
from ..machine import changed_since, kernels
from ..machine.host import Host
from ..root import root_lines, trial
from ..store import journals
from ..store.store import Store

# Where this program itself writes into a new root that waits: kernels' modules, the boot menu. What
# is new in the root directory counts for itself.
_OURS = (".", "boot", "usr/lib/modules")


class Waiting(enum.Enum):
    """What a rollback that is done waits for."""

    NOTHING = "nothing"
    REBOOT = "reboot"
    ELSEWHERE = "elsewhere"  # the machine was booted since, but not into the new root
    DISPLACED = "displaced"  # not booted since, and somebody put another root in its place


class Window(NamedTuple):
    """The rollback that is not settled yet, if there is one.

    `old_root` and `new_root` are its two roots wherever they lie now, known by UUID, None where
    they were deleted; `next_root` is what lies where the new root was put.
    """

    waiting: Waiting
    journal: Pending | None = None
    old_root: Subvolume | None = None
    new_root: Subvolume | None = None
    next_root: Subvolume | None = None

    @property
    def is_undone_by_hand(self) -> bool:
        """Whether somebody made the old root the next one again without this program."""
        return self.next_root is not None and self.next_root == self.old_root

    @property
    def is_displaced(self) -> bool:
        """Whether the next boot finds neither root of the rollback."""
        if self.journal is None:
            return False
        ours = (self.journal.old_uuid, self.journal.new_uuid)
        return self.next_root is None or self.next_root.uuid not in ours


def boot_of(host: Host) -> str:
    """Return the identity of the boot that a machine runs in, "" if it does not run.

    A machine that runs a trial of a snapshot runs, if not from its own root.
    """
    return kernels.boot_id() if host.is_running or trial.is_beside_trial(host) else ""


def this_boot(host: Host) -> str:
    """Return the identity of the boot in which something is done to a machine, running or not."""
    return boot_of(host) or kernels.boot_id()


def look(host: Host, store: Store | None) -> Window:
    """Return the state of the rollback. Changes nothing. Raises StoreError on a broken journal."""
    return window_of(host, journals.read(store) if store is not None else None)


def window_of(host: Host, journal: Pending | None) -> Window:
    """Return the state of the rollback; `journal` is what was read.

    Only the running system can tell that it has booted the new root: on a machine that is not
    running, a rollback keeps waiting.
    """
    if journal is None:
        return Window(Waiting.NOTHING)
    by_uuid = {subvolume.uuid: subvolume for subvolume in host.subvolumes}
    old, new = by_uuid.get(journal.old_uuid), by_uuid.get(journal.new_uuid)
    found = Window(Waiting.NOTHING, journal, old, new, journals.next_root(host, journal))
    boot = boot_of(host)
    is_new_boot = boot not in ("", journal.boot_id)
    came_up = is_new_boot and new is not None and new.id == host.root_id
    if (came_up and not trial.is_beside_trial(host)) or found.is_undone_by_hand:
        return found
    if is_new_boot:
        return found._replace(waiting=Waiting.ELSEWHERE)
    return found._replace(waiting=Waiting.DISPLACED if found.is_displaced else Waiting.REBOOT)


def explain(host: Host, window: Window) -> Explanation:
    """Return why another root runs than the one that the rollback made, and what to do."""
    if window.is_displaced:
        return displaced(host, window)
    number = host.running_id if trial.is_beside_trial(host) else host.root_id
    running = host.by_id(number)
    if trial.is_beside_trial(host):
        told = Statement(wrong_root.RUNNING, "", running.path if running else None, None, True)
        return wrong_root.explain(running, window.new_root, host.default_id, (told,))
    try:
        statements = root_lines.deciding(host, host.root_fd)
    except Error as error:  # the reason is said with what is known
        found = wrong_root.explain(running, window.new_root, host.default_id, ())
        return found._replace(sentence=f"{found.sentence} ({error})", hint=error.hint or found.hint)
    return wrong_root.explain(running, window.new_root, host.default_id, statements)


def target_of(host: Host, journal: Pending) -> str:
    """Return the name in messages of the target of a rollback."""
    found = host.by_path(journal.roots.target_path)
    return labelled(journal.target, found.id if found else None)


def displaced(host: Host, window: Window) -> Explanation:
    """Return what replaced the new root, and the possible next steps with their commands."""
    assert window.journal is not None, "a rollback waits"
    roots = window.journal.roots
    name = roots.root if roots.layout is Kind.NAMED else None
    return wrong_root.displaced(
        target_of(host, window.journal),
        host.mount.source,
        name,
        _free_name(host, name or ""),
        wrong_root.Roots(window.old_root, window.new_root, window.next_root),
    )


def _free_name(host: Host, name: str) -> str:
    """Return a name beside `name` (from the top level) that nothing has."""
    names = (f"{name}.other{'-' * i}" for i in range(99))
    return next(n for n in names if not os.path.lexists(host.path(n)))


def has_another_root(host: Host, window: Window) -> bool:
    """Whether neither root of a rollback is the machine's any more, but another that it finds."""
    if window.journal is None or window.waiting not in (Waiting.ELSEWHERE, Waiting.DISPLACED):
        return False
    if window.is_displaced and window.next_root is not None:
        return True
    ours = [root.id for root in (window.old_root, window.new_root) if root is not None]
    if host.root_id in ours or not host.is_running:
        return False
    try:
        return root_lines.read_layout(host).root.id == host.root_id
    except Error:  # not known to be: what waits goes on waiting
        return False


def was_used(host: Host, store: Store, window: Window) -> bool:
    """Whether the new root, or a subvolume in it, has something of its own since the rollback.

    Read from the filesystem's transaction numbers and not from a clock. What was only read counts
    where neither the old root nor the snapshot tells, nor in the same boot the time of the last
    change, which a read leaves: what the rollback itself wrote. Raises KernelError.
    """
    journal, new, old = window.journal, window.new_root, window.old_root
    if journal is None or new is None:
        return False
    made = None
    if this_boot(host) == journal.boot_id:
        made = (parse_time(journal.created).timestamp(), journals.time(store))
    with kernel_errors("sync", host.mount.source):
        syscalls.sync_filesystem(host.top_fd)  # generations are read from the disk
    since = journal.generation
    by_path = {subvolume.path: subvolume for subvolume in host.subvolumes}
    by_uuid = {subvolume.uuid: subvolume for subvolume in host.subvolumes}
    for path, inside in by_path.items():
        if not is_within(path, new.path):
            continue
        if inside.born > since:
            return True
        copied = by_uuid.get(inside.parent_uuid)
        place = path[len(new.path) :].strip("/")
        origins = {copied.path} if copied else set()
        if old is not None and (path == new.path or join(old.path, place) in by_path):
            origins.add(join(old.path, place) if place else old.path)
        left_out = _OURS if path == new.path else ()
        if changed_since.is_changed(host, path, since, sorted(origins), left_out, made):
            return True
    return False


def refuse_while_waiting(host: Host, window: Window) -> None:
    """Raise RefusedError while a rollback waits for its reboot.

    A new root that does not come up may be replaced from the trial of a snapshot.
    """
    if window.waiting is Waiting.REBOOT:
        raise RefusedError(
            "a rollback is waiting for a reboot",
            hint="Reboot, or cancel the rollback with 'fs-rollback undo'.",
        )
    if window.waiting is Waiting.NOTHING:
        return
    if window.is_displaced:
        raise _refused(displaced(host, window))
    if not trial.is_beside_trial(host):
        hint = (
            "Reboot and choose the machine's usual boot entry, or make the old root the next one"
            " again with 'fs-rollback undo'."
        )
        if has_another_root(host, window):
            hint += " To keep the root that runs: 'fs-rollback settle --forget'."
        raise RefusedError(
            "a rollback was done, but the machine did not boot its new root", hint=hint
        )


def refuse_to_take_back(host: Host, window: Window) -> None:
    """Raise RefusedError, with the way out, if a waiting rollback cannot be undone."""
    refuse_stranger(host, window)
    if window.is_displaced and (window.next_root is not None or window.old_root is None):
        raise _refused(displaced(host, window))
    _refuse_foreign_names(host, window)
    ours = [root.id for root in (window.old_root, window.new_root) if root is not None]
    if not (host.is_running or trial.is_beside_trial(host) or host.root_id in ours):
        named = host.mount.source if host.is_temporary else host.root
        raise RefusedError(
            f"{named} is neither the old nor the new root of the rollback that is waiting on this"
            " filesystem",
            hint="Undo the rollback on the machine on which it was done.",
        )
    if window.old_root is None:
        raise RefusedError(
            "the rollback cannot be undone: the old root was deleted outside fs-rollback",
            hint="Reboot into the new root; 'fs-rollback list' shows the snapshots to roll back"
            " to.",
        )
    for root in (window.old_root, window.new_root):
        if root is not None and root.read_only:  # and so it cannot leave its directory
            writable = f"btrfs property set -ts {mounted(root.path)} ro false"
            raise RefusedError(
                f"/{root.path} was made read-only",
                hint=f"Make it writable: {wrong_root.by_hand(host.mount.source, writable)}; then"
                " 'fs-rollback undo'.",
            )


def refuse_stranger(host: Host, window: Window) -> None:
    """Raise RefusedError where another machine that shares this filesystem was rolled back."""
    root = window.old_root or window.new_root
    if root is not None and host.is_stranger_at(root.path):
        raise RefusedError(
            "the waiting rollback belongs to another machine that shares this filesystem",
            hint="Boot that machine to undo or to confirm the rollback.",
        )


def _refuse_foreign_names(host: Host, window: Window) -> None:
    """Raise RefusedError where a name that the undo needs has something else, which stays whole."""
    if window.journal is None or window.journal.roots.in_top_level:
        return
    root = window.journal.roots.root
    ours = (window.journal.old_uuid, window.journal.new_uuid)
    found = next((s.uuid for s in host.subvolumes if s.path == root), None)
    if found not in ours and os.path.lexists(host.path(root)):
        move = f"mv -T {mounted(root)} {mounted(_free_name(host, root))}"
        raise RefusedError(
            f"/{root} is neither the old nor the new root of the rollback, but the undo needs that"
            " name",
            hint=f"Move it away: {wrong_root.by_hand(host.mount.source, move)}; then"
            " 'fs-rollback undo'.",
        )


def _refused(why: Explanation) -> RefusedError:
    return RefusedError(why.sentence, hint=why.hint)
