# SPDX-License-Identifier: GPL-2.0-or-later
"""Grades each link in the chain of a boot, from the boot loader to fstab."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

from ..formats.cmdline import RootArguments
from ..formats.fstab import Entry, Mounting
from ..snapshots.snapshot import Subvolume
from .ext4_options import keeps_btrfs_off
from .findings import Finding, Grade, fatal, ok, warning
from .layout import Kind, Layout, Statement, root_of

# linux/Documentation/arch/x86/boot.rst: the signature of the setup header, and its offset.
_BZIMAGE_MAGIC, _BZIMAGE_OFFSET = b"HdrS", 0x202
HEAD_BYTES = _BZIMAGE_OFFSET + len(_BZIMAGE_MAGIC)
# Areas without which there is no boot; the others are about the next change, or the way back.
DECIDING = (
    "default-entry",
    "kernel",
    "initramfs",
    "command-line",
    "root",
    "init",
    "modules",
    "fstab",
)


def newly_broken(before: Sequence[Finding], after: Sequence[Finding]) -> list[Finding]:
    """Return the faults that stop a boot and are new in `after`, by their code and subject."""
    known = {(f.code, f.subject) for f in before if f.grade is Grade.FATAL}
    return [
        finding
        for finding in after
        if finding.grade is Grade.FATAL
        and finding.area in DECIDING
        and (finding.code, finding.subject) not in known
    ]


def kernel_image(path: str, head: Optional[bytes], *, x86: bool) -> Finding:
    """Grade the kernel image of the default entry by its first HEAD_BYTES; None if it is absent.

    On x86 it must have the signature of a bzImage; elsewhere only its presence is checked.
    """
    advice = "Reinstall the kernel package, or choose another default entry."
    if head is None:
        return fatal("kernel.missing", "", f"the kernel image is missing: {path}", advice)
    if not head:
        return fatal("kernel.empty", "", f"the kernel image is empty: {path}", advice)
    if x86 and head[_BZIMAGE_OFFSET:HEAD_BYTES] != _BZIMAGE_MAGIC:
        return fatal(
            "kernel.not-an-image", "", f"the file is not an x86 kernel image: {path}", advice
        )
    return ok("kernel.ok", "", path)


def command_line(
    statement: Statement, root: Optional[Subvolume], arguments: RootArguments
) -> Finding:
    """Grade what the default entry says about the root; `root` is what root_of() found for it."""
    said = says(statement)
    if root is None:
        return fatal(
            "command-line.subvolume",
            "",
            f"it names a subvolume that does not exist: {said}",
            f"Correct the options in {statement.where}; 'btrfs subvolume list /' shows all"
            " subvolumes.",
        )
    word = next(filter(keeps_btrfs_off, arguments.flags), "")
    if arguments.fstypes and not {"btrfs", "auto"} & {*arguments.fstypes}:
        word = f"rootfstype={','.join(arguments.fstypes)}"
    if word:
        return fatal(
            "command-line.root-option",
            word,
            f"the root is btrfs and cannot be mounted with an option of another filesystem: {word}",
            f"In {statement.where}, remove '{word}'.",
        )
    if statement.subvolume_id is not None:
        edit = f"replace it with 'subvol={root.path}'" if root.path else "remove it"
        return warning(
            "command-line.pinned",
            "",
            f"it pins the root by its subvolume ID, so no rollback is possible: {said}",
            f"In {statement.where}, {edit}.",
        )
    return ok("command-line.ok", "", said)


def kernel_settings(
    statement: Statement, layout: Layout, subvolumes: Sequence[Subvolume], default_id: int
) -> Finding:
    """Grade a file from which the next kernel update makes its command line."""
    where = statement.where
    led = root_of(statement, subvolumes, layout.silent_id(default_id))
    # A subvolume ID leads there only until the next rollback.
    if statement.subvolume_id is None and led is not None and led.id == layout.root.id:
        return ok("kernel-updates.ok", where, f"{where} leads to the root of the next boot")
    named = layout.kind is Kind.NAMED
    edit = f"write 'rootflags=subvol={layout.root.path}'" if named else "remove 'rootflags=subvol='"
    return warning(
        "kernel-updates.other-root",
        where,
        "the next kernel to be installed would boot another root than the default entry:"
        f" {where} says {says(statement)}",
        f"In {where}, {edit}.",
    )


def says(statement: Statement) -> str:
    """Return what a line says about the root, as mount options."""
    options = []
    if statement.subvolume is not None:
        options.append(f"subvol={statement.subvolume or '/'}")
    if statement.subvolume_id is not None:
        options.append(f"subvolid={statement.subvolume_id}")
    return ",".join(options) or "the default subvolume"


def fstab_root(entry: Optional[Entry]) -> Optional[Finding]:
    """Grade the fstab entry of the btrfs root, apart from its subvolume; None if it is right.

    systemd-remount-fs.service(8) remounts the root with these options, and ignores the type.
    """
    if entry is None:
        return warning(
            "fstab.no-root",
            "/",
            "/etc/fstab has no entry for /: the root may stay read-only",
            "Add one, or make sure that the kernel command line has 'rw'.",
        )
    where = f"/etc/fstab line {entry.line}, {entry.text!r}"
    option = next(filter(keeps_btrfs_off, entry.options), "")
    if option:
        return fatal(
            "fstab.root-option",
            "/",
            f"the root is btrfs, and an option of ext4 keeps it read-only: {where}",
            f"Remove '{option}' from /etc/fstab line {entry.line}.",
        )
    if entry.fstype not in ("btrfs", "auto"):
        return warning(
            "fstab.root-type",
            "/",
            f"the root is btrfs, but its entry says something else: {where}",
            f"In /etc/fstab line {entry.line}, replace '{entry.fstype}' with 'btrfs'.",
        )
    return None


def subject(entry: Entry) -> str:
    """Return what a finding about an entry is about: its mount point, its device if it has none."""
    return entry.point if entry.point.startswith("/") else entry.spec


def fstab_entry(entry: Entry, facts: Mounting) -> Finding:
    """Grade one entry of fstab.

    systemd creates a missing mount point. It waits 90 s for a missing device and then stops the
    boot, unless the entry says noauto or nofail (systemd.mount(5)) or is for swap.
    """
    where = f"/etc/fstab line {entry.line}, {entry.text!r}"
    spared = {"noauto", "nofail"} & set(entry.options) or entry.fstype == "swap"
    worst = warning if spared else fatal
    what = subject(entry)
    cure = f"Correct /etc/fstab line {entry.line}, or add 'nofail' to its options."
    if facts.has_device is False:
        return worst("fstab.device", what, f"the device of an entry does not exist: {where}", cure)
    if facts.has_subvolume is False:
        return worst(
            "fstab.subvolume", what, f"the subvolume of an entry does not exist: {where}", cure
        )
    if facts.has_device is None or facts.has_subvolume is None:
        return warning(
            "fstab.unknown", what, f"an entry cannot be checked from here: {where}", cure
        )
    if not facts.has_point:
        return warning(
            "fstab.mount-point",
            what,
            f"the mount point of an entry does not exist: {where}",
            f"Create the directory {entry.point}; otherwise systemd does so at boot.",
        )
    return ok("fstab.ok", what, f"{entry.point} can be mounted")
