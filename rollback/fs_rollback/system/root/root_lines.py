# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads the lines that decide which subvolume becomes the root at boot.

The running command line, the boot entry that is the default, and the line of / in fstab decide; so
do entries that lead to this very root. What other systems, loaders or tools have written down does
not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Callable

from ...core.boot.entries import Bootable
from ...core.boot.layout import (
    Kind,
    Layout,
    Statement,
    decide,
    expected_root,
    from_boot_entry,
    from_command_line,
    from_file,
    from_fstab,
    root_of,
)
from ...core.formats import cmdline, default_grub, fstab
from ...core.snapshots.snapshot import STORE, Subvolume
from ...errors import RefusedError
from ..linux import files
from ..loader import entries as loader_entries
from ..machine import kernels
from ..machine.host import Host
from ..store import store
from . import trial

COMMAND_LINE, DEFAULT_GRUB = "etc/kernel/cmdline", "etc/default/grub"


def read_layout(host: Host) -> Layout:
    """Return how the machine finds its root. Raises RefusedError where no rollback is possible."""
    aside = trial.aside(host)
    if aside is not None:
        raise aside.refusal()
    lines = deciding(host, host.root_fd, root_id=_waiting_root_id(host))
    return decide(lines, host.subvolumes, host.default_id, host.root_id)


def read_next_layout(host: Host) -> Layout:
    """As `read_layout`; while a rollback waits for its reboot, as the new root's own files say."""
    layout = read_layout(host)
    if layout.root.id == host.root_id:
        return layout
    with files.opened(host.path(layout.root.path)) as tree:
        lines = deciding(host, tree, root_id=layout.root.id)
        return decide(lines, host.subvolumes, host.default_id, 0)


def _waiting_root_id(host: Host) -> int | None:
    """Return the ID of the root that a rollback has put in its place, None where none waits."""
    if not store.is_journal_in(host.top_fd):
        return None
    from ..store import journals

    journal = journals.glance(host.top_fd)
    root = journals.next_root(host, journal) if journal is not None else None
    return root.id if root is not None else None


def deciding(
    host: Host, tree: int, *, running: bool = True, root_id: int | None = None
) -> list[Statement]:
    """Return the lines that decide about the next root, with the fstab of a tree.

    `running` is false where this boot was told of another root than the next one will be. `root_id`
    is the root to expect where nothing says it, that of the host if none is given.
    """
    told = []
    if running and host.is_running:
        told = [from_file("/proc/cmdline", kernels.running_command_line(), host.identity.is_meant)]
    table = from_fstab("/etc/fstab", host.fstab_entries(tree))
    firm = [line for line in (*told, table) if line is not None]
    present = host.root_id if root_id is None else root_id
    root = expected_root(firm, host.subvolumes, host.default_id, present)
    entries = _of_loader(host, root, is_known=any(told))
    if not any(told) and not entries:
        # Where no boot entries are read, these are what the loader's own file was made from.
        entries = [s for s in for_updates(host, tree) if _leads(host, s, root)]
    place = 1 if any(told) else 0
    return [*firm[:place], *entries, *firm[place:]]


def _of_loader(host: Host, root: Subvolume, *, is_known: bool) -> list[Statement]:
    """Return what boot entries decide: the default one, and those that lead to `root`.

    Where the default cannot be known, or is another system's, the latter are enough. `is_known`:
    something has led to this root already; else entries that all lead elsewhere disagree.
    """
    named = root.path and not root.path.startswith(f"{STORE}/")
    found = loader_entries.read(host, Layout(Kind.NAMED if named else Kind.DEFAULT, root, ()))
    usual = [b for b in found.bootables if not b.of_snapshot]
    default = found.default
    first: list[Bootable] = []
    if default in usual and default is not None and not default.foreign:
        # Raises RefusedError where it says what no kernel understands.
        from_boot_entry(default.entry, host.identity.is_meant)
        first = [default] if default.ours else []
    here = [b for b in usual if b.leads and b.ours and b not in first]
    if default is None and not here and not is_known:
        first = [b for b in usual if b.ours and not b.foreign and not b.leads][:1]
    return [b.said for b in (*first, *here) if b.said is not None]


def _leads(host: Host, statement: Statement, root: Subvolume) -> bool:
    led = root_of(statement, host.subvolumes, host.default_id)
    return led is not None and led.id == root.id


def for_updates(host: Host, tree: int) -> list[Statement]:
    """Return what the files of a tree say of which the next kernel's boot entry is made.

    Raises RefusedError for what no kernel understands.
    """
    is_ours = host.identity.is_meant
    line = cmdline.of_file(files.read_in_tree(tree, COMMAND_LINE) or "")
    options = default_grub.command_line(files.read_in_tree(tree, DEFAULT_GRUB) or "")
    found = [from_file(f"/{COMMAND_LINE}", line, is_ours)]
    # Silence says nothing there: grub-mkconfig(8) adds the subvolume by itself.
    said = from_command_line(f"/{DEFAULT_GRUB}", options, is_ours)
    found.append(None if said is None or said.silent else said)
    return [statement for statement in found if statement is not None]


def named_as_root(host: Host) -> frozenset[int]:
    """Return the subvolumes that any line of the machine makes the root, on its own.

    For who has to spare the next root where the lines together do not tell which one that is.
    """
    is_ours = host.identity.is_meant
    found = loader_entries.read(host, Layout(Kind.DEFAULT, host.root_subvolume, ()))
    lines = [b.said for b in found.bootables if b.said is not None and not b.of_snapshot]
    readers: tuple[Callable[[], Iterable[Statement | None]], ...] = (
        lambda: [from_file("/proc/cmdline", kernels.running_command_line(), is_ours)],
        lambda: [from_fstab("/etc/fstab", host.fstab_entries())],
        lambda: for_updates(host, host.root_fd),
    )
    for read in readers[0 if host.is_running else 1 :]:
        with suppress(RefusedError):  # it names what no subvolume can be
            lines += [line for line in read() if line is not None]
    roots = (root_of(line, host.subvolumes, host.default_id) for line in lines)
    return frozenset(root.id for root in roots if root is not None)


def own_entries(host: Host) -> Iterator[fstab.Entry]:
    """Give what fstab mounts of the filesystem of the root, as far as can be told."""
    for entry in host.fstab_entries():
        if entry.fstype == "btrfs" and host.identity.is_meant(entry.spec) is not False:
            yield entry


def mounted_elsewhere(host: Host) -> frozenset[str]:
    """Return the subvolumes that the tree's fstab mounts by name elsewhere than on /."""
    return frozenset(e.subvolume for e in own_entries(host) if e.subvolume and e.point != "/")


def mounted_by_id(host: Host) -> frozenset[int]:
    """Return the subvolumes that the tree's fstab mounts by their ID."""
    numbers = (entry.subvolume_id for entry in own_entries(host))
    return frozenset(number for number in numbers if number is not None)


def mount_points(host: Host) -> frozenset[str]:
    """Return where the tree's fstab, and the running system, mount something in the root."""
    points = {e.point for e in host.fstab_entries() if e.point not in ("/", "none", "swap")}
    if host.is_running:
        points |= {mount.point for mount in host.mounts if mount.point != "/"}
    return frozenset(points)
