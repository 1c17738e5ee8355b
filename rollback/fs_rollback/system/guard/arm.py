# SPDX-License-Identifier: GPL-2.0-or-later
"""Sets the boot loader for a guarded boot, and undoes that.

The entry of a snapshot becomes the default. A copy of the usual entry, with options so that nothing
waits for a person, is set for the next boot only. At every instant the next boot uses one of the
two: the files are on the disk before the loader is set, the next boot is set before the default,
and everything is undone in reverse order.
"""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import datetime, timezone
from typing import Optional

from ...core.boot.entries import GUARDED, Bootable
from ...core.boot.layout import Layout
from ...core.guard import entry as guarded_entry
from ...core.guard.state import Armed, Guard
from ...core.loader import loaders
from ...core.snapshots.names import label
from ...core.snapshots.record import format_time
from ...core.snapshots.snapshot import Snapshot
from ...errors import Error, RefusedError
from ..linux import durable, files
from ..loader import entries, places, settings
from ..loader.entries import Boot
from ..machine import kernels
from ..machine.host import Host
from ..root import root_lines
from ..snapshots import menu, snapshot_entries
from ..store import guards, trace
from ..store.store import Store

# fs-rollback-guard.service is started where this is: at boot, and after hibernation.
MARK = "/run/fs-rollback-guard"
# What has a boot end the guard: packaging/systemd.
_GENERATOR = "usr/lib/systemd/system-generators/fs-rollback-guard-generator"


def why_not(host: Host, layout: Layout, found: Boot) -> str:
    """Return why no boot can be guarded here, and what would make it possible; "" if one can."""
    with files.opened(host.path(layout.root.path)) as tree:
        if files.status_of(tree, _GENERATOR) is None:
            return (
                "the root that boots has no fs-rollback to report a healthy boot. Install"
                " fs-rollback in it."
            )
    outranking = settings.outranking(found.choice, found.setting)
    reason = settings.why_not_once(host, found.places, found.choice, found.setting)
    if reason or outranking is None:
        cure = (
            "A guarded boot needs systemd-boot, or GRUB with its environment block on plain ext4"
            " or vfat."
        )
        return f"{reason or 'grub.cfg sets the default entry by itself'}. {cure}"
    usual = found.default
    if usual is None or not usual.usable:
        is_other = usual is not None and usual.foreign
        what = "belongs to another system" if is_other else "is not a usual entry of this root"
        return f"the default entry {what}. First make a usual entry of this root the default."
    if usual.is_guarded:
        return (
            f"{usual.entry.file} still has {GUARDED} from a guarded boot. Remove that from its"
            " options."
        )
    once = settings.one_shot(found.choice, found.setting)
    if once is not None:
        return f"the next boot is set to use {once.value}. First clear that, or reboot."
    return ""


def arm(host: Host, store: Store, back: Snapshot, count: int, *, is_unproven: bool) -> None:
    """Guard the next boot, with a snapshot to fall back to; `count` as for the boot menu.

    Removes an earlier guard first. Needs the lock. Raises RefusedError if it is impossible, with
    the machine unguarded, and KernelError.
    """
    disarm(host, store)
    layout = root_lines.read_layout(host)
    reason = why_not(host, layout, entries.read(host, layout))
    if reason:
        raise _cannot(reason)
    updated = menu.update(host, store, count, also=(back.name,))
    found, way = menu.entry_of(host, layout, back)
    if way is None:
        raise _cannot(updated.why_none(back.name) or f"{label(back)} has no entry in the boot menu")
    usual = found.default
    assert usual is not None, "why_not has said so"
    armed = _prepared(found, back, usual, way, is_unproven=is_unproven)
    guards.write(store, guards.read(store)._replace(armed=armed))
    try:
        _tell_loader(host, layout, armed, _text_of(usual), like=usual)
    except Error:
        disarm(host, store)
        raise
    if host.is_running:
        with suppress(OSError), open(MARK, "w", encoding="ascii"):  # no /run: it cannot hibernate
            pass
    trace.tell(host, trace.Event("guarded", back.name, back.id, reason=armed.title))


def _prepared(
    found: Boot, back: Snapshot, usual: Bootable, way: Bootable, *, is_unproven: bool
) -> Armed:
    """Return what the loader is told, and was told before."""
    rules = loaders.rules(found.choice.loader)
    setting = settings.outranking(found.choice, found.setting)
    once = settings.once(found.choice, found.setting)
    assert rules is not None, "why_not has said so"
    assert setting is not None, "the same"
    assert once is not None, "the same"
    name = guarded_entry.file_name([b.entry for b in found.bootables])
    made = usual.entry._replace(file=name)
    assert back.subvolume is not None, "it has an entry"
    return Armed(
        snapshot=back.name,
        uuid=back.subvolume.uuid,
        file=setting.file,
        key=setting.key,
        value=rules.value(way.entry),
        old=setting.value,
        once_file=once.file,
        once_key=once.key,
        once_value=rules.value(made),
        entry=found.place_of(usual).locate_entry(name),
        title=usual.entry.title or usual.entry.id,
        boot_id=kernels.boot_id(),
        is_unproven=is_unproven,
        time=format_time(datetime.now(timezone.utc)),
    )


def _text_of(usual: Bootable) -> str:
    try:
        return guarded_entry.text_of(usual.entry)
    except ValueError as error:
        raise _cannot(f"the entry {usual.entry.id} cannot be copied: {error}") from error


def _tell_loader(host: Host, layout: Layout, armed: Armed, text: str, *, like: Bootable) -> None:
    """Write the guarded entry, then the one for the next boot, then the default; see the top."""
    path = places.path_of(host, armed.entry)
    directory, name = os.path.split(path)
    with files.opened(directory) as opened:
        status = files.status_of(opened, os.path.basename(like.entry.file))
        mode = (status.st_mode if status else 0o600) & 0o777
        durable.write_text(opened, name, text, mode=mode, for_loader=True)
    settings.write_setting(host, armed.once_file, armed.once_key, armed.once_value)
    settings.write_setting(host, armed.file, armed.key, armed.value)
    read = entries.read(host, layout)
    once, default = read.once, read.default
    if once is None or os.path.basename(once.entry.file) != name:
        raise _cannot("the boot loader did not accept an entry for the next boot only")
    rules = loaders.rules(read.choice.loader)
    if default is None or rules is None or rules.value(default.entry) != armed.value:
        raise _cannot("the boot loader did not accept the snapshot's entry as its default")


def why_out_of_reach(host: Host, armed: Armed) -> str:
    """Return why the settings of the boot loader cannot be read now, "" if they can."""
    found = (settings.why_out_of_reach(host, file) for file in (armed.file, armed.once_file))
    return next(filter(None, found), "")


def is_armed(host: Host, armed: Optional[Armed]) -> bool:
    """Whether the snapshot is the default of the boot loader.

    Raises RefusedError if that cannot be read now, and KernelError.
    """
    if armed is None:
        return False
    reason = why_out_of_reach(host, armed)
    if reason:
        raise RefusedError(
            f"the boot loader's settings for the guarded boot cannot be read: {reason}",
            hint="Mount it first.",
        )
    return settings.setting_value(host, armed.file, armed.key) == armed.value


def trouble(host: Host, armed: Armed) -> str:
    """Return why the entries that are set would not boot, "" if they would. Raises Error.

    People remove entries, kernels and subvolumes, and grub2-mkconfig(8) rewrites options.
    """
    read = entries.read(host, root_lines.read_layout(host))
    rules = loaders.rules(read.choice.loader)
    if rules is None:
        return ""
    there = {rules.value(bootable.entry): bootable for bootable in read.bootables}
    way, once = there.get(armed.value), there.get(armed.once_value)
    if way is None:
        return "the boot entry of the snapshot to fall back to is missing"
    reason = snapshot_entries.trouble(host, way)
    if reason:
        return f"the snapshot to fall back to would not boot: {reason}"
    if not has_next_boot(host, armed):
        return ""
    if once is None:
        return "the entry of the guarded boot is missing"
    if once.missing:
        return f"files of the guarded boot are missing or empty: {', '.join(once.missing)}"
    return "" if once.is_guarded else f"the entry of the guarded boot no longer has {GUARDED}"


def has_next_boot(host: Host, armed: Armed) -> bool:
    """Whether the guarded boot is set for the next boot only."""
    return settings.setting_value(host, armed.once_file, armed.once_key) == armed.once_value


def set_next_boot(host: Host, store: Store, armed: Armed) -> None:
    """Set the guarded boot again as the next boot. Needs the lock. Raises KernelError.

    Only boots from now on count: the present boot is not a failed one.
    """
    now = format_time(datetime.now(timezone.utc))
    again = armed._replace(boot_id=kernels.boot_id(), time=now, reason="")
    guards.write(store, guards.read(store)._replace(armed=again))
    settings.write_setting(host, armed.once_file, armed.once_key, armed.once_value, in_place=True)


def disarm(host: Host, store: Store) -> Optional[Armed]:
    """Undo the settings of the boot loader, except those that somebody has changed since.

    Returns the guard that was removed, None if there was none. Needs the lock. Raises RefusedError
    if the boot loader cannot be set now, and KernelError.
    """
    guard = guards.read(store)
    armed = guard.armed
    if armed is None:
        return None
    if not (armed.file or host.running_id):
        raise RefusedError(
            "its boot loader can be configured only from a system that it has booted",
            hint="Boot the machine and try again there.",
        )
    was_armed = is_armed(host, armed)
    if was_armed:
        # Room or not: else a boot that was healthy would lead back.
        settings.write_setting(host, armed.file, armed.key, armed.old, in_place=True)
    if has_next_boot(host, armed):
        settings.write_setting(host, armed.once_file, armed.once_key, None, in_place=True)
    path = places.path_of(host, armed.entry)
    directory, name = os.path.split(path)
    if os.path.lexists(path):
        with files.opened(directory) as opened:
            durable.remove_durably(opened, name)
    guards.write(store, Guard(None, guard.unacknowledged))
    if was_armed:
        trace.tell(host, trace.Event("unguarded", armed.snapshot, reason=armed.title))
    return armed


def _cannot(reason: str) -> RefusedError:
    return RefusedError(
        f"the next boot cannot be guarded: {reason.rstrip('.')}",
        hint="'fs-rollback check' shows how this machine boots.",
    )
