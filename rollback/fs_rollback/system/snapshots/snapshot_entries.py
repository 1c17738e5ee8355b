# SPDX-License-Identifier: GPL-2.0-or-later
"""Which entries of the boot menu are of snapshots of this system, and which of them boot these.

Whose an entry is comes from its file name: grub2-mkconfig(8) rewrites the options of every entry,
and people change what they see. What rewrites an entry makes it boot another root, or none.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Optional

from ...core.boot.entries import Bootable, best_fit, is_elsewhere, leads_to_trial, trial_of
from ...core.loader.menu_names import is_snapshot_name
from ...core.snapshots import saved_files
from ...core.snapshots.names import SNAPSHOT_PREFIX, TRIAL_PREFIX, is_moment
from ...core.snapshots.snapshot import STORE, Snapshot, Subvolume
from ..linux import files
from ..loader import grub
from ..loader.entries import Boot
from ..machine import kernels
from ..machine.host import Host
from ..root import target_lines
from ..store import guards
from ..store.store import Store
from . import saved_kernels


def of_copies(host: Host, found: Boot) -> dict[str, Bootable]:
    """Return the entry of each writable copy by the copy's name, of several the best one.

    The one that boots next counts most, then one that leads to its copy.
    """
    chosen = (found.once, found.default)
    best = sorted(ours(host, found), key=lambda b: (b not in chosen, bool(trouble(host, b))))
    return {trial_of(bootable.entry): bootable for bootable in reversed(best)}


def saved_by_grub(host: Host, found: Boot) -> Optional[Bootable]:
    """Return the entry of a snapshot that is the default because somebody has chosen it once.

    None where it is the way back of a guarded boot.
    """
    if found.default is None or found.default not in ours(host, found):
        return None
    if guards.glance(host.top_fd).leads_back_to(trial_of(found.default.entry)):
        return None
    saves = grub.saves_choice(host, found.places, found.setting)
    return found.default if saves else None


def usual_default(
    host: Host, store: Store, found: Boot, snapshots: Iterable[Snapshot]
) -> Optional[Bootable]:
    """Return the entry that was the default before one of a snapshot, None where nothing tells.

    It is what the loader would choose, the newest that the root has modules for; unless the list of
    kernels saved last (`snapshots` are newest first) has that one, and another default.
    """
    modules = kernels.that_fit(host.root_fd)
    chosen = best_fit(found.choice, found.bootables, modules, "")
    names = (s.record.boot_files for s in snapshots if s.record and s.record.boot_files)
    with suppress(saved_files.BootFilesError):  # nothing tells: the loader's choice, as above
        for saved in (saved_kernels.read(store, name) for name in names):
            if saved.default and not is_snapshot_name(saved.default):
                known = chosen is not None and chosen.kernel in {f.kernel for f in saved.files}
                former = saved.default if known else ""
                return best_fit(found.choice, found.bootables, modules, former)
    return chosen


def trouble(host: Host, bootable: Bootable) -> str:
    """Return why the entry of a snapshot does not boot its writable copy, "" if it does."""
    copy = trial_of(bootable.entry)
    if copy not in copies(host):
        return f"its copy is gone, /{STORE}/{copy}"
    if not bootable.entry.linux:
        return "it names no kernel"
    if bootable.missing:
        return f"files are missing or empty, {', '.join(bootable.missing)}"
    if not (bootable.ours and leads_to_trial(bootable.entry)):
        return f"its options lead elsewhere, {bootable.entry.options or 'it has none'}"
    with files.opened(host.path(f"{STORE}/{copy}")) as tree:
        if bootable.kernel and bootable.kernel not in kernels.with_modules(tree):
            return f"its copy has no modules for kernel {bootable.kernel}"
        if lost := target_lines.lost_mounts(host, tree):
            return f"its copy mounts something that no longer exists: {'; '.join(lost)}"
    return ""


def ours(host: Host, found: Boot) -> list[Bootable]:
    """Return the entries of this system's snapshots, whatever others have written into them.

    Another system may share /boot, and the filesystem too.
    """
    candidates = [b for b in found.bootables if trial_of(b.entry)]
    here = [b for b in candidates if not is_elsewhere(b)]
    return [b for b in here if not _is_strange(host, trial_of(b.entry))]


def _is_strange(host: Host, trial: str) -> bool:
    """Whether a writable copy, or the snapshot that it is of, is another system's."""
    moment = trial[len(TRIAL_PREFIX) :]
    paths = (f"{STORE}/{SNAPSHOT_PREFIX}{moment}", f"{STORE}/{trial}")
    there = {s.path for s in host.subvolumes}.intersection(paths)
    return any(host.is_stranger_at(path) for path in there)


def copies(host: Host) -> dict[str, Subvolume]:
    """Return the writable copies of snapshots by their names."""
    return in_store(host, TRIAL_PREFIX)


def in_store(host: Host, start: str) -> dict[str, Subvolume]:
    """Return the subvolumes right in the store that have a name of ours, which begins like this."""
    prefix = f"{STORE}/{start}"
    return {
        s.path[len(STORE) + 1 :]: s
        for s in host.subvolumes
        if s.path.startswith(prefix) and is_moment(s.path[len(prefix) :])
    }
