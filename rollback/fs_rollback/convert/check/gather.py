# SPDX-License-Identifier: GPL-2.0-or-later
"""Gathers all that decides whether a root can be converted. Reads only."""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Iterator
from datetime import datetime
from typing import Optional

from ...core.formats import cmdline, fstab, mountinfo
from ...core.formats.fstab import Entry
from ...errors import ProcessError, RefusedError, kernel_errors
from ...system.linux import devices, files, process, syscalls
from ...system.loader import entries as loader_entries
from ...system.machine import kernels
from ..disk import ext4
from ..disk.ext4 import Part, Superblock
from ..machine import command_lines, contents, initramfs, loader
from ..machine.machine import LAYOUT, Ext4Machine
from ..plan import state
from ..plan.facts import Facts, Volume
from ..plan.plan import FSTAB, SAVED

_BOOT_POINTS = ("/boot", "/boot/efi", "/efi")
_IN_FRONT = Part(0, ext4.SUPERBLOCK_OFFSET)
_VERSION = re.compile(r"btrfs-progs v?(\d+(?:\.\d+)*)")
_DM_KINDS = {"LVM": "LVM", "CRYPT": "LUKS", "mpath": "multipath", "part": "a partition"}


def gather(machine: Ext4Machine, *, backup: bool, now: datetime) -> Facts:
    """Return what is known of a machine and its root. `now` is aware.

    Raises RefusedError where not all of it is mounted; KernelError and ProcessError where something
    cannot be read that has to be.
    """
    device, tree = machine.device, machine.root_fd
    _refuse_unmounted(machine)
    found = loader_entries.read(machine, LAYOUT) if machine.mount.fstype == "ext4" else None
    kind = machine.mount.fstype
    if kind.startswith("ext"):  # the driver of ext4 mounts the older ones too, under any name
        kind = devices.probe(device).get("TYPE", "")
    space = os.fstatvfs(tree)
    prepared = state.read(machine.root)
    entries = machine.fstab_entries()
    root = fstab.root_entry(entries)
    stack = tuple(stack_of(machine.mount.device))
    volume = look(
        device,
        kind,
        is_mounted=not machine.mount.read_only,
        free_bytes=space.f_bfree * space.f_frsize,
        now=now,
    )
    superblock = volume.superblock
    return Facts(
        **vars(volume),
        stage=prepared.stage if prepared is not None else None,
        inodes=space.f_files - space.f_ffree,
        is_locked=devices.is_read_only(machine.mount.device),
        stack=stack,
        names=tuple(_names(machine, found)),
        crypttab=tuple(_crypttab(tree)) if any("LUKS" in layer for layer in stack) else (),
        fstab_is_file=_is_file(tree, FSTAB),
        protected=tuple(_protected(tree)) if superblock else (),
        root_options=root.options if root is not None else None,
        mounted_again=tuple(_mounted_again(machine, superblock, entries)) if superblock else (),
        swap_files=tuple(_swap_files(machine)),
        has_saved=os.path.lexists(os.path.join(machine.root, SAVED)),
        has_boot_code=bool(superblock) and any(contents.read(device, _IN_FRONT)),
        loader=loader.look(machine, found),
        lines_left=tuple(command_lines.left(machine, found)),
        kernels=initramfs.kernels_of(machine, found),
        other_images=initramfs.others_of(machine, found),
        builder=initramfs.builder(),
        selinux=_selinux(machine),
        distribution=_os_release(tree),
        rotational=_rotational(machine.mount.device),
        backup=backup,
    )


def look(
    device: str, kind: str, *, is_mounted: bool, free_bytes: int = -1, now: datetime
) -> Volume:
    """Return what is known of a filesystem of a kind (blkid's TYPE); `now` is aware.

    `free_bytes` is what the kernel says of a mounted one. Raises KernelError.
    """
    superblock = contents.superblock(device) if kind == "ext4" else None
    found, damage = None, ""
    if superblock is not None:
        try:
            found = contents.look(device, superblock)
        except ValueError as error:  # what is refused then
            damage = f"{device} cannot be read: {error}"
        if free_bytes < 0:
            free_bytes = superblock.free_blocks * superblock.block_bytes
    return Volume(
        device=device,
        fstype=kind,
        superblock=superblock,
        spare=contents.spare_superblock(device) if superblock else None,
        contents=found,
        damage=damage,
        page_bytes=os.sysconf("SC_PAGESIZE"),
        is_mounted=is_mounted,
        free_bytes=max(free_bytes, 0),
        progs=progs_version(),
        at=now,
    )


def _refuse_unmounted(machine: Ext4Machine) -> None:
    """Raise RefusedError if the boot loader's files are elsewhere, and not mounted there."""
    mounted = {mount.point for mount in machine.mounts}
    for entry in machine.fstab_entries():
        # The kernels are in /boot, whether or not it is mounted at boot; an ESP may be a spare one.
        optional = entry.point != "/boot" and {"noauto", "nofail"} & set(entry.options)
        if entry.point in _BOOT_POINTS and not optional:
            path = machine.root.rstrip("/") + entry.point
            if path not in mounted:
                raise RefusedError(
                    f"/etc/fstab mounts {entry.spec} on {entry.point}, but nothing is mounted on"
                    f" {path}",
                    hint=f"Mount it first: mount {entry.spec} {path}",
                )


def stack_of(number: str) -> Iterator[str]:
    """Give what a block device ("MAJOR:MINOR") is made of, itself first.

    From /sys/dev/block, Documentation/ABI/testing/sysfs-block-dm of Linux.
    """
    directory = os.path.realpath(f"/sys/dev/block/{number}")
    name = _attribute(directory, "dm/name")
    kind = _attribute(directory, "dm/uuid").partition("-")[0]
    if name:
        yield f"{_DM_KINDS.get(kind, 'device mapper')} {name}"
    elif os.path.isdir(f"{directory}/md"):
        level = _attribute(directory, "md/level")
        yield f"md {level} {devices.of_number(number)}"
    else:
        yield devices.of_number(number) if os.path.isdir(directory) else number
    slaves = f"{directory}/slaves"
    for slave in sorted(os.listdir(slaves)) if os.path.isdir(slaves) else []:
        yield from stack_of(_attribute(f"{slaves}/{slave}", "dev"))


def _attribute(directory: str, name: str) -> str:
    """Return what the kernel says in /sys, "" where it says nothing. Raises KernelError."""
    path = f"{directory}/{name}"
    with kernel_errors("read", path):
        try:
            with open(path, encoding="utf-8") as file:
                return file.read().strip()
        except (FileNotFoundError, NotADirectoryError):  # as promised
            return ""


def _rotational(number: str) -> Optional[bool]:
    directory = os.path.realpath(f"/sys/dev/block/{number}")
    for place in (directory, os.path.dirname(directory)):
        said = _attribute(place, "queue/rotational")
        if said:
            return said == "1"
    return None


def _names(machine: Ext4Machine, found: Optional[loader_entries.Boot]) -> Iterator[tuple[str, str]]:
    root = fstab.root_entry(machine.fstab_entries())
    if root is not None:
        yield "/etc/fstab", root.spec
    lines = [("a boot entry", bootable.entry.options) for bootable in initramfs.of_system(found)]
    kept = files.read_in_tree(machine.root_fd, "etc/kernel/cmdline")
    lines.append(("/etc/kernel/cmdline", kept or ""))
    if machine.is_running:
        lines.append(("/proc/cmdline", kernels.running_command_line()))
    said = {(where, cmdline.root_arguments(line).root) for where, line in lines}
    yield from sorted((where, spec) for where, spec in said if spec)


def _mounted_again(
    machine: Ext4Machine, superblock: Superblock, entries: tuple[Entry, ...]
) -> Iterator[Entry]:
    """Give what fstab mounts as ext4 of the root's device, beside the root itself."""
    root = fstab.root_entry(entries)
    names = {f"UUID={superblock.uuid}", f"LABEL={superblock.label}"}
    names.update([devices.as_tag(root.spec)] if root is not None else [])
    for entry in entries:
        if entry is root or "ext4" not in entry.fstype.split(","):
            continue
        spec = devices.as_tag(entry.spec)
        if spec.startswith("UUID="):
            spec = spec.lower().replace("uuid", "UUID")
        try:
            is_device = devices.number_of(spec) == machine.mount.device
        except OSError:  # no device here is called so: its name decides alone
            is_device = False
        if is_device or spec in names:
            yield entry


def _crypttab(tree: int) -> Iterator[str]:
    for line in (files.read_in_tree(tree, "etc/crypttab") or "").split("\n"):
        if line.strip() and not line.lstrip().startswith("#"):
            yield " ".join(line.split()[:2])


def _swap_files(machine: Ext4Machine) -> Iterator[str]:
    """Give the files on the root's filesystem that are, or become at boot, swap space."""
    specs = [e.spec for e in machine.fstab_entries() if e.fstype == "swap"]
    if machine.is_running:
        with kernel_errors("read", "/proc/swaps"), open("/proc/swaps", encoding="utf-8") as file:
            specs += [mountinfo.unescape(line.split()[0]) for line in file.readlines()[1:]]
    device = os.fstat(machine.root_fd).st_dev
    for spec in dict.fromkeys(specs):
        if spec.startswith("/") and not spec.startswith("/dev/"):
            status = files.status_of(machine.root_fd, spec)
            if status is not None and status.st_dev == device:
                yield spec


def _is_file(tree: int, path: str) -> bool:
    status = files.status_of(tree, path, follow=False)
    return status is not None and stat.S_ISREG(status.st_mode)


def _protected(tree: int) -> Iterator[str]:
    for path in (os.path.dirname(FSTAB), FSTAB):
        status = files.status_of(tree, path, follow=False)
        if status is not None and (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
            with kernel_errors("read", f"/{path}"):
                descriptor = syscalls.open_in_root(tree, path, os.O_RDONLY, follow=False)
                try:
                    if syscalls.is_protected(descriptor):
                        yield f"/{path}"
                finally:
                    os.close(descriptor)


def _selinux(machine: Ext4Machine) -> str:
    """Return what SELinux does: "" where it is not installed."""
    if machine.is_running:
        enforces = _attribute("/sys/fs/selinux", "enforce")
        if enforces:
            return "enforcing" if enforces == "1" else "permissive"
    text = files.read_in_tree(machine.root_fd, "etc/selinux/config") or ""
    found = re.findall(r"^\s*SELINUX=(\w+)", text, re.MULTILINE)
    if found and machine.is_running:
        return "disabled"
    return found[-1] if found else ""


def progs_version() -> Optional[tuple[int, ...]]:
    """Return the version of btrfs-convert(8) here, None where there is none.

    It comes with btrfs(8), which can say it.
    """
    if shutil.which("btrfs-convert") is None:
        return None
    try:
        said = process.run(["btrfs", "--version"])
    except ProcessError:  # what cannot be started converts nothing: refused as absent
        return None
    match = _VERSION.search(said)
    return tuple(int(part) for part in match.group(1).split(".")) if match else None


def _os_release(tree: int) -> dict[str, str]:
    values = {}
    text = files.read_in_tree(tree, "etc/os-release")
    for line in (text or files.read_in_tree(tree, "usr/lib/os-release") or "").split("\n"):
        key, separator, value = line.partition("=")
        if separator:
            values[key.strip()] = value.strip().strip("\"'")
    return values
