# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether a root can be converted: facts in, a point for each of them out."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import Optional

from ...core.boot.conversion_state import Stage
from ...core.boot.findings import Finding, Grade, fatal, ok, warning
from ...core.formats.fstab import Entry
from ..disk.ext4 import Superblock
from ..plan.edits import ext4_words, without_ext4
from ..plan.facts import Facts, Loader, Volume
from ..plan.plan import SAVED
from . import filesystem_points as of_filesystem
from . import kernel_points as of_kernels
from .filesystem_points import gib

# Before 6.9 preallocated extents were converted wrongly and silently (btrfs-progs#916).
LEAST_PROGS = (6, 9)
ADVISED_PROGS = (6, 17, 1)
# Those of mount(8); btrfs-convert(8) is told to keep the UUID and the label.
_TAGS = ("UUID", "LABEL", "PARTUUID", "PARTLABEL")
# Mount options of ext4(5).
_QUOTAS = ("quota", "usrquota", "grpquota", "prjquota", "usrjquota", "grpjquota", "jqfmt")


def points(facts: Facts) -> tuple[Finding, ...]:
    """Return every finding, in the order in which a person would ask; a decisive one is alone."""
    superblock = facts.superblock
    if facts.fstype != "ext4" or superblock is None:
        return of_volume(facts)
    return (
        *of_volume(facts),
        *_preparation(facts.stage),
        _device(facts),
        *_names(facts, superblock),
        *_mounted_again(facts.mounted_again),
        *_quotas(facts.root_options or ()),
        *_swap(facts),
        *_saved(facts),
        _boot(facts.loader),
        *_boot_code(facts),
        *_command_lines(facts),
        *of_kernels.kernels(facts),
        *of_kernels.initramfs(facts),
        _selinux(facts),
        _distribution(facts),
        _backup(facts),
        _time(facts, superblock),
    )


def of_volume(volume: Volume) -> tuple[Finding, ...]:
    """Return the points of the filesystem alone, which decide where no machine is known."""
    superblock = volume.superblock
    if volume.fstype != "ext4" or superblock is None:
        return (of_filesystem.none(volume),)
    return (
        ok("filesystem.ok", "", f"{volume.device} is ext4, UUID {superblock.uuid}"),
        *of_filesystem.features(volume, superblock),
        of_filesystem.blocks(volume, superblock),
        *of_filesystem.state(volume, superblock),
        *of_filesystem.spare(volume, superblock),
        of_filesystem.space(volume, superblock),
        *of_filesystem.contents(volume, superblock),
        progs(volume.progs),
    )


def _preparation(stage: Optional[Stage]) -> Iterator[Finding]:
    again = "'fs-rollback convert abort' undoes it."
    if stage is Stage.PREPARING:
        yield warning("preparation.cut-off", "", "a preparation was interrupted", again)
    elif stage is not None:
        yield Finding("preparation.done", "", Grade.OK, "this machine is prepared", again)


def _device(facts: Facts) -> Finding:
    if facts.is_locked:
        return fatal(
            "device.read-only",
            "",
            f"{facts.device} is read-only",
            "'blockdev --setrw' may help, or the write-protect switch of the device.",
        )
    if not facts.stack:
        return warning("device.unknown", "", f"cannot determine what {facts.device} is on", "")
    return ok("device.ok", "", " on ".join(facts.stack))


def _names(facts: Facts, superblock: Superblock) -> Iterator[Finding]:
    if facts.root_options is None:
        yield fatal(
            "names.no-root",
            "/",
            "/etc/fstab has no line for /",
            "Add one: its filesystem type and options must change together with the root.",
        )
    if not facts.fstab_is_file:
        yield fatal(
            "names.fstab-link",
            "/etc/fstab",
            "/etc/fstab is not a regular file, and what it points to would still say ext4",
            "Replace it by the file itself.",
        )
    for path in facts.protected:
        yield fatal(
            "names.protected",
            path,
            f"{path} has the flag i or a of chattr(1), but the line of the root in fstab must"
            " change",
            f"chattr -i -a {path}",
        )
    for where, spec in facts.names:
        tag, _, value = spec.partition("=")
        if tag == "UUID" and value.strip('"').lower() != superblock.uuid:
            yield warning(
                "names.other-uuid",
                where,
                f"{where} says {spec}, but {facts.device} has UUID {superblock.uuid}",
                "Is this the right disk, or a copy of it? If it is the right one, correct the"
                " UUID.",
            )
        elif tag in _TAGS or spec.startswith("/dev/"):
            yield ok("names.ok", where, f"{where} says {spec}, which stays valid")
        else:
            yield warning(
                "names.unknown",
                where,
                f"{where} says {spec}, a kind of name that fs-rollback does not know",
                "Name the root there by its UUID, which the conversion keeps:"
                f" UUID={superblock.uuid}",
            )
    for line in facts.crypttab:
        text = f"/etc/crypttab: {line}: the encrypted container is not changed"
        yield ok("names.container", line.split()[0], text)


def _mounted_again(entries: Sequence[Entry]) -> Iterator[Finding]:
    for entry in entries:
        yield warning(
            "names.mounted-again",
            entry.point,
            f"/etc/fstab line {entry.line}, {entry.text!r}: it also mounts the root as ext4, and"
            " the conversion does not change it",
            "Comment it out before the conversion; otherwise the boot stops there. When the root"
            " is btrfs, set its type to btrfs, without options of ext4.",
        )


def _quotas(options: Sequence[str]) -> Iterator[Finding]:
    # Without its value, "usrjquota=" turns them off.
    found = [o for o in options if o.partition("=")[0] in _QUOTAS and not o.endswith("=")]
    if found:
        yield warning(
            "quotas.limits",
            "",
            f"{','.join(found)} in /etc/fstab: quota limits of users or projects are lost with"
            " ext4",
            "Write them down: repquota(8). btrfs has quota groups instead, which slow down the"
            " filesystem.",
        )


def _swap(facts: Facts) -> Iterator[Finding]:
    for path in facts.swap_files:
        yield fatal(
            "swap-files.present",
            path,
            f"there is a swap file on it: {path}",
            f"swapoff {path}; rm {path}; remove its line from /etc/fstab. After the conversion,"
            " create it again with 'btrfs filesystem mkswapfile', in its own subvolume.",
        )
    if not facts.swap_files:
        yield ok("swap-files.ok", "", "none on it")


def _saved(facts: Facts) -> Iterator[Finding]:
    if facts.has_saved:
        yield fatal(
            "way-back.name-taken",
            f"/{SAVED}",
            f"/{SAVED} exists, but the conversion saves the old ext4 under that name",
            "Rename it.",
        )


def _boot(loader: Loader) -> Finding:
    if not loader.on_root:
        return ok(
            "boot-loader.ok", "", f"{loader.name} reads {loader.where}, which is not converted"
        )
    text = f"{loader.name} reads {loader.where} on the root that is converted"
    cannot = loader.reads_btrfs is False
    if loader.reads_btrfs:
        return ok("boot-loader.ok", "", f"{text}, and it can read btrfs")
    if loader.grub_install:
        return warning(
            "boot-loader.unknown",
            "",
            f"{text}; cannot determine whether it can read btrfs there",
            "Before the conversion, run on the machine itself (it then reads both):"
            f" {loader.grub_install}",
        )
    return Finding(
        "boot-loader.no-btrfs",
        "",
        Grade.FATAL if cannot else Grade.WARNING,
        f"{text}, and {'cannot' if cannot else 'may be unable to'} read btrfs",
        "Give /boot a partition of its own (ext4) first.",
    )


def _boot_code(facts: Facts) -> Iterator[Finding]:
    if facts.has_boot_code:
        yield warning(
            "boot-loader.boot-code",
            "",
            f"the first 1024 bytes of {facts.device} contain data, perhaps a boot loader, and"
            " btrfs-convert erases it",
            "If this machine boots from there (extlinux, 'grub-install' to the partition, no"
            " partitions at all): install a boot loader elsewhere first, or do not convert.",
        )


def _command_lines(facts: Facts) -> Iterator[Finding]:
    """Give the lines that would keep a btrfs from being mounted and that no step changes."""
    for line in facts.lines_left:
        # As its folder is called the programs are: Fedora's and EL's have a 2.
        grub = "grub" if line.file.startswith("/boot/grub/") else "grub2"
        change = f"{line.variable}={without_ext4(line.text).strip()}"
        advice = f"{grub}-editenv {line.file} set {shlex.quote(change)}"
        if not line.file.endswith(("/grub.cfg", "/grubenv")):
            advice = "remove it there."
        elif not line.variable:
            advice = (
                "remove it from GRUB_CMDLINE_LINUX and GRUB_CMDLINE_LINUX_DEFAULT in"
                f" /etc/default/grub, then: {grub}-mkconfig -o {line.file}"
            )
        yield fatal(
            "command-line.ext4-option",
            line.file,
            f"{line.file} has options that only ext4 knows: {' '.join(ext4_words(line.text))}",
            f"Both filesystems boot without it: {advice}",
        )


def _selinux(facts: Facts) -> Finding:
    if facts.selinux in ("", "disabled"):
        return ok("selinux.ok", "", facts.selinux or "not installed")
    return ok(
        "selinux.ok",
        "",
        f"{facts.selinux}; labels are extended attributes, which are copied",
    )


def progs(version: Optional[tuple[int, ...]]) -> Finding:
    """Return whether a version of btrfs-progs may convert, None for none."""
    least, advised = (".".join(map(str, v)) for v in (LEAST_PROGS, ADVISED_PROGS))
    if version is None:
        return fatal(
            "btrfs-progs.missing", "", "btrfs-convert is not installed", "dnf install btrfs-progs"
        )
    said = ".".join(map(str, version))
    if version < LEAST_PROGS:
        return fatal(
            "btrfs-progs.too-old",
            "",
            f"{said} is too old: before {least}, preallocated files lose their content",
            f"Update it; or prepare here and convert from a rescue system with {advised} or later.",
        )
    if version < ADVISED_PROGS:
        return warning(
            "btrfs-progs.old",
            "",
            f"{said} works; {advised} or later is better",
            "A rescue system may have a newer one: 'fs-rollback convert run --device'.",
        )
    return ok("btrfs-progs.ok", "", said)


_STATEMENTS = {
    "ol": "Oracle's manuals say that a root filesystem cannot be converted, so Oracle does not"
    " support it",
    "rhel": "Red Hat does not support btrfs",
    "centos": "the kernel of CentOS Stream has no btrfs, and nobody supports another kernel there",
    "rocky": "the kernel of Rocky Linux has no btrfs, and nobody supports another kernel there",
    "almalinux": "AlmaLinux supports btrfs since 10.1, but does not mention conversions",
}


def _distribution(facts: Facts) -> Finding:
    found = facts.distribution
    said = found.get("PRETTY_NAME") or found.get("ID", "")
    statement = _STATEMENTS.get(found.get("ID", ""))
    if statement is not None:
        return warning(
            "distribution.unsupported",
            "",
            f"{said}: {statement}",
            "It is technically possible, but your vendor will not help if it fails.",
        )
    if found.get("ID") in ("fedora", "debian"):
        return ok("distribution.ok", "", f"{said}: btrfs is supported; a conversion is not tested")
    return warning(
        "distribution.unknown",
        "",
        f"{said or 'unknown'}: not known whether it supports btrfs",
        "Check its documentation before you convert.",
    )


def _backup(facts: Facts) -> Finding:
    if facts.backup:
        return ok("backup.ok", "", "confirmed with --have-backup")
    return warning(
        "backup.unknown",
        "",
        "is there a backup on another disk, and have you read something back from it?",
        "If so, use --have-backup. If not, make one: a conversion rewrites all filesystem"
        " metadata.",
    )


def _time(facts: Facts, superblock: Superblock) -> Finding:
    used, rotational = max(superblock.size_bytes - facts.free_bytes, 0), facts.rotational
    seconds = estimate_s(facts.inodes, superblock.inodes, used, rotational=rotational is not False)
    return ok(
        "time.ok",
        "",
        f"about {_minutes(seconds)} for {facts.inodes} files and {gib(used)}; the machine cannot be"
        " used meanwhile",
    )


def estimate_s(inodes: int, all_inodes: int, used_bytes: int, *, rotational: bool) -> float:
    """Return about how many seconds e2fsck, btrfs-convert and btrfs check take together.

    Measured on a disk in memory with btrfs-progs 7.1, up to 200,000 files and 3 GB: 0.3 ms for an
    inode, 5 s for a GiB in use. To that comes what a disk takes to read all of it once.
    """
    bytes_per_s = 100e6 if rotational else 400e6
    per_inode = 1.5e-3 if rotational else 4e-4
    computing = 10 + inodes * per_inode + used_bytes * 5.5 / (1 << 30)
    return computing + (used_bytes + all_inodes * 256) / bytes_per_s


def _minutes(seconds: float) -> str:
    if seconds < 90:
        return "a minute"
    if seconds < 5400:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"
