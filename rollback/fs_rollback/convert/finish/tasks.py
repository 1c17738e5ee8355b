# SPDX-License-Identifier: GPL-2.0-or-later
"""What comes after the first good boot from btrfs. Each task is done alone, and may run again."""

from __future__ import annotations

import enum
import os

from ...core.boot import findings
from ...core.boot.conversion_state import DIRECTORY
from ...core.boot.layout import Kind
from ...core.formats import fstab
from ...core.formats.mountinfo import is_within
from ...core.snapshots.snapshot import STORE, TOP_LEVEL_ID
from ...errors import Error, RefusedError
from ...system.check import next_boot
from ...system.check.conversion import is_behind
from ...system.linux import btrfs, files, process, removal, syscalls
from ...system.linux.durable import remove_file, write_file
from ...system.linux.process import Say
from ...system.loader import entries
from ...system.machine.host import Host
from ...system.pending import state as pending_state
from ...system.root import root_lines
from ...system.store.store import Store
from ..machine import initramfs
from ..plan import state
from ..plan.plan import SAVED, Preparation
from ..plan.steps import BootOnce, MakeConverter, RebuildImage, WriteFile
from ..prepare.operations import forget_boot_once, refuse_outside
from . import rename_root


class Task(enum.Enum):
    """What can be done, in the order in which it is done; the value is the name of its option.

    A balance may fail, so the way back to ext4 is deleted after it. To defragment comes behind
    that: as long as the old ext4 is there it would take the space of all files once more.
    """

    BALANCE = "balance"
    REMOVE_EXT4 = "remove-ext4"
    DEFRAGMENT = "defragment"
    FREE_SPACE_TREE = "free-space-tree"
    LAYOUT = "layout"


def what(task: Task, *, ends_way_back: bool) -> str:
    """Return what a task does, and what it makes impossible: a sentence without a full stop."""
    ends = ", and there is no way back to ext4 after this" if ends_way_back else ""
    return {
        Task.REMOVE_EXT4: f"Delete {SAVED}, which uses the space of the old ext4: there is no way"
        " back to ext4 after this",
        Task.DEFRAGMENT: "Defragment all files: ext4 extents are rewritten for btrfs, and files no"
        f" longer share data with snapshots{ends}",
        Task.BALANCE: f"Balance: partly full data chunks are repacked, then the metadata{ends}",
        Task.FREE_SPACE_TREE: "Create the free space tree (space_cache=v2) at the next boot; it is"
        " faster and safer than the old cache",
        Task.LAYOUT: "Give the root its own subvolume, as Fedora and Oracle Linux do: the root"
        " becomes `root`, /home becomes `home`; needs two reboots, and the files at the top"
        " level are deleted only after the first of them succeeded",
    }[task]


def read(host: Host) -> Preparation | None:
    """Return the unfinished conversion of this machine; None if there is none.

    Raises StoreError where that cannot be read.
    """
    preparation = state.read(host.top)
    return preparation if preparation and is_behind(host, preparation.stage) else None


def verify(host: Host, store: Store | None) -> Preparation:
    """Return the unfinished conversion of this machine. Raises RefusedError if there is none.

    Also raises it if something is wrong with the booted system: that must be right first.
    """
    preparation = read(host)
    if preparation is None:
        raise RefusedError(
            "no unfinished conversion of this root was found",
            hint="Without a conversion, use 'btrfs balance start -m /' and 'btrfs filesystem"
            " defragment -r /' instead of --balance and --defragment.",
        )
    pending_state.refuse_while_waiting(host, pending_state.look(host, store))
    wrong = [link for link in next_boot.links(host) if link.grade is findings.Grade.FATAL]
    if wrong:
        raise RefusedError(
            f"this machine would not boot again: {wrong[0].text}",
            hint=wrong[0].advice,
        )
    root = fstab.root_entry(host.fstab_entries())
    if root is None or root.fstype not in ("btrfs", "auto"):
        raise RefusedError(
            "/etc/fstab does not say that the root is btrfs",
            hint="From a rescue system, 'fs-rollback convert run --device' does the rest.",
        )
    _refuse_image_without_btrfs(host)
    _refuse_device_errors(host)
    return preparation


def _refuse_image_without_btrfs(host: Host) -> None:
    """Raise RefusedError if the next boot would not find its root: it may have been another's."""
    found = entries.read(host, root_lines.read_layout(host))
    default = found.default
    if default is None or not default.initramfs or initramfs.is_built_in(host, default.kernel):
        return
    # A path through this process, for another one: the top level is mounted nowhere.
    base = found.place_of(default).base.replace("/proc/self/", f"/proc/{os.getpid()}/")
    if initramfs.look_into(base.rstrip("/") + default.initramfs).has_btrfs is False:
        raise RefusedError(
            f"the initramfs of the default entry has no btrfs: {default.initramfs}",
            hint=f"Rebuild it first: dracut --force PATH {default.kernel or 'VERSION'}; or make the"
            " entry that you booted the default.",
        )


def _refuse_device_errors(host: Host) -> None:
    try:
        process.run(["btrfs", "device", "stats", "--check", host.root])
    except Error as error:
        raise RefusedError(
            f"the devices of this btrfs have had errors: {error}",
            hint=f"Check 'btrfs device stats {host.root}' and 'dmesg' before you give up the way"
            " back to ext4.",
        ) from error


def is_way_back(host: Host) -> bool:
    """Whether the old ext4 is still there."""
    return any(s.path == SAVED for s in host.subvolumes)


def open_tasks(host: Host) -> tuple[Task, ...]:
    """Return what is left to be done, in the order in which it is done."""
    found = [Task.BALANCE]
    if is_way_back(host):
        found.append(Task.REMOVE_EXT4)
    found.append(Task.DEFRAGMENT)
    if not has_free_space_tree(host):
        found.append(Task.FREE_SPACE_TREE)
    layout = root_lines.read_layout(host)
    if rename_root.has_begun(host) or (
        layout.kind is Kind.DEFAULT
        and (layout.in_top_level or is_within(f"/{layout.root.path}", f"/{STORE}"))
    ):
        found.append(Task.LAYOUT)
    return tuple(found)


def has_free_space_tree(host: Host) -> bool:
    """Whether the filesystem has one, as its mount says: /sys/fs/btrfs tells only at the next."""
    return "space_cache=v2" in host.mount.super_options


def remove_ext4(host: Host) -> None:
    """Delete the image of the old ext4. Raises KernelError."""
    path = host.path(SAVED)
    if btrfs.is_subvolume(path):
        btrfs.delete_subvolume(path, recursive=True)
    host.forget()


def defragment(host: Host, say: Say) -> None:
    """Defragment all files of the root, a directory at a time. Raises Error."""
    names = files.list_in_tree(host.root_fd, ".") or []
    own = os.fstat(host.root_fd).st_dev
    found = {name: files.status_of(host.root_fd, name, follow=False) for name in names}
    # No links: they lead to what has its turn, or out of here.
    places = [n for n, status in found.items() if status and status.st_dev == own and n != STORE]
    for number, name in enumerate(places, start=1):
        say(f"defragmenting /{name}, {number} of {len(places)}")
        path = os.path.join(host.root, name)
        code, last = process.watch(["btrfs", "filesystem", "defragment", "-r", "-f", path])
        if code:
            raise Error(f"'btrfs filesystem defragment -r {path}' failed: {last}")


def ask_for_free_space_tree(host: Host) -> None:
    """Write the option into fstab that makes it when the root becomes writable at the next boot."""
    path = os.path.join(host.root, "etc/fstab")
    text = files.read_in_tree(host.root_fd, "etc/fstab") or ""
    write_file(path, fstab.with_root_option(text, "space_cache=v2"), 0o644)
    host.forget()


def tidy(host: Host, preparation: Preparation, say: Say) -> None:
    """Remove what served the conversion: the entry that converts, its initramfs, the old ones.

    Nothing of it is needed once the root is btrfs. Raises KernelError.
    """

    def remove(root: str, path: str) -> None:
        full = os.path.join(root, path)
        if root == host.root:
            refuse_outside(host, path)
        if os.path.lexists(full):
            remove_file(full, "")
            say(f"removed because the root is now btrfs: /{path}")

    for step in reversed(preparation.steps):
        if isinstance(step, BootOnce):
            # GRUB cannot write to a btrfs: what did not boot before the conversion is chosen yet.
            found = entries.read(host, root_lines.read_layout(host))
            forget_boot_once(host, found, step.entry)
            continue
        # After a rollback the loader may still read what lies at the top level.
        for root, tree in ((host.root, host.root_fd), (host.top, host.top_fd)):
            if isinstance(step, WriteFile) and step.before is None:
                if files.read_in_tree(tree, step.path) == step.after:
                    remove(root, step.path)
            elif isinstance(step, MakeConverter):
                remove(root, step.path)
            elif isinstance(step, RebuildImage):
                remove(root, step.kept)


def forget(host: Host) -> None:
    """Forget the conversion: nothing is left to finish or to undo."""
    path = host.path(DIRECTORY)
    if os.path.isdir(path):
        removal.remove(path)
    with files.opened(host.top) as top:
        syscalls.sync_filesystem(top)


def is_top_level(host: Host) -> bool:
    """Whether the running root is still where btrfs-convert(8) put it."""
    return host.root_id == TOP_LEVEL_ID
