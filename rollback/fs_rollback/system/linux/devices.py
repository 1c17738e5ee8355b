# SPDX-License-Identifier: GPL-2.0-or-later
"""Finds the block device that a user names, its contents (blkid(8)), and what /sys has of it."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ...errors import (
    Error,
    ProcessError,
    RefusedError,
    UnsupportedRootError,
    UsageError,
    kernel_errors,
)
from . import process, syscalls

if TYPE_CHECKING:
    from ...core.boot.health import Device, Errors

# The tags of mount(8), and the names of udev's folders of links: /dev/disk/by-NAME/VALUE.
_LINKS = {"UUID": "uuid", "LABEL": "label", "PARTUUID": "partuuid", "PARTLABEL": "partlabel"}
_LINK = rf"/dev/disk/by-({'|'.join(_LINKS.values())})/([^/]+)"
# How udev(7) writes what may not stand in the name of a link.
_CODED = r"\\x([0-9a-f]{2})"
_TO_CODE = rb"[^0-9A-Za-z#+\-.:=@_\x80-\xff]"
# How to get at what is inside, by blkid's TYPE.
_CONTAINERS = {
    "crypto_LUKS": "Open it first: cryptsetup open {} NAME, then --device /dev/mapper/NAME.",
    "LVM2_member": "Activate it first: vgchange --activate y, then --device /dev/VG/LV.",
    "linux_raid_member": "Assemble it first: mdadm --assemble --scan, then --device /dev/md/NAME.",
}
_INSTEAD_OF_EXT4 = {
    "btrfs": "There is nothing to convert; 'fs-rollback status --device' works on it.",
    "ext2": "Only ext4 can be converted; tune2fs(8) describes how to turn ext2 into ext4.",
    "ext3": "Only ext4 can be converted; tune2fs(8) describes how to turn ext3 into ext4.",
    "xfs": "Only ext4 can be converted; move the system to a new btrfs filesystem instead.",
}


def find(given: str) -> str:
    """Return the block device that a path or a tag names.

    Raises UsageError if there is none, RefusedError if a tag matches several filesystems.
    """
    spec = as_tag(given)
    if is_tag(spec):
        return _find_tag(spec)
    try:
        is_block = stat.S_ISBLK(os.stat(spec).st_mode)
    except OSError as error:
        raise UsageError(
            f"there is no device {given}", hint="'lsblk --fs' lists all devices."
        ) from error
    if not is_block:
        raise UsageError(
            f"{given} is not a block device",
            hint="To attach an image file as one: 'losetup --find --show --partscan FILE'.",
        )
    return spec


def _find_tag(tag: str) -> str:
    # Not from blkid's cache, which may tell of disks that were taken out.
    devices = (_blkid("-c", os.devnull, "-t", tag, "-o", "device") or "").split()
    if not devices:
        raise UsageError(f"there is no device with {tag}", hint="'lsblk --fs' lists all devices.")
    if len(devices) > 1 and not _are_one_filesystem([probe(device) for device in devices]):
        raise RefusedError(
            f"several devices have {tag}: {', '.join(devices)}",
            hint="Detach the wrong one, or mount everything by hand and use --root.",
        )
    return devices[0]


def _are_one_filesystem(found: Sequence[dict[str, str]]) -> bool:
    """Whether devices are those of one btrfs, and no copies: each has a UUID_SUB of its own."""
    kinds = {(one.get("TYPE"), one.get("UUID")) for one in found}
    parts = {one.get("UUID_SUB") for one in found}
    return len(kinds) == 1 and len(parts) == len(found) and found[0].get("TYPE") == "btrfs"


def as_tag(spec: str) -> str:
    """Return a specification without quotation marks, and udev's links as the tags they are of."""
    link = re.fullmatch(_LINK, spec)
    if link is not None:
        return f"{link[1].upper()}={_decoded(link[2])}"
    tag, separator, value = spec.partition("=")
    return tag + separator + value.strip("\"'") if separator and not tag.startswith("/") else spec


def is_tag(spec: str) -> bool:
    """Whether a specification of as_tag() is a tag that names a device."""
    return spec.partition("=")[0] in _LINKS and "=" in spec


def link_of(tag: str) -> str:
    """Return the link that udev(7) makes for a tag."""
    kind, _, value = tag.partition("=")
    if kind in ("UUID", "PARTUUID"):
        value = value.lower()
    coded = re.sub(_TO_CODE, lambda match: b"\\x%02x" % match[0][0], os.fsencode(value))
    return f"/dev/disk/by-{_LINKS[kind]}/{os.fsdecode(coded)}"


def _decoded(name: str) -> str:
    raw = re.sub(_CODED, lambda match: chr(int(match[1], 16)), name)
    return os.fsdecode(raw.encode("utf-8", "surrogateescape"))


def _blkid(*arguments: str) -> str | None:
    """Return what blkid(8) prints, None where it finds nothing. Raises ProcessError without it."""
    try:
        return process.run(["blkid", *arguments])
    except ProcessError as error:
        if isinstance(error.__cause__, OSError):
            raise
        return None  # its exit code for "nothing found" is one with others, blkid(8)


def number_of(device: str) -> str:
    """Return "MAJOR:MINOR" of a block device. Raises OSError."""
    number = os.stat(device).st_rdev
    return f"{os.major(number)}:{os.minor(number)}"


def of_number(number: str) -> str:
    """Return the path of the block device "MAJOR:MINOR". Raises KernelError."""
    path = f"/sys/dev/block/{number}/uevent"
    with kernel_errors("read", path), open(path, encoding="utf-8") as file:
        names = [line[8:].strip() for line in file if line.startswith("DEVNAME=")]
    return f"/dev/{names[0]}" if names else f"/dev/block/{number}"


def is_read_only(number: str) -> bool:
    """Whether the block device "MAJOR:MINOR" takes no writes; False where there is none."""
    try:
        with open(f"/sys/dev/block/{number}/ro", encoding="utf-8") as file:
            return file.read().strip() == "1"
    except FileNotFoundError:  # as promised: there is none, or no sysfs here
        return False


def of_btrfs(descriptor: int, uuid: str) -> tuple[Device, ...]:
    """Return the devices of a mounted btrfs as the kernel knows them.

    From /sys/fs/btrfs/UUID/devinfo/NUMBER, Documentation/ch-sysfs.rst of btrfs-progs: `missing` is
    there since Linux 5.6, `error_stats` since 5.14. Where /sys is not mounted what
    the ioctl says has to do, and the counters are not known. Raises KernelError.
    """
    with kernel_errors("list the devices of", uuid):
        paths = syscalls.device_paths(descriptor)
    return tuple(_of_btrfs(f"/sys/fs/btrfs/{uuid}/devinfo/{n}", n, p) for n, p in paths.items())


def _of_btrfs(place: str, number: int, path: str) -> Device:
    from ...core.boot.health import Device

    missing, told = _attribute(f"{place}/missing"), _attribute(f"{place}/error_stats")
    is_missing = not path if missing is None else missing.strip() == "1"
    errors = None if told is None else _errors(told)
    return Device(number, "" if is_missing else path, is_missing, errors)


def _errors(text: str) -> Errors | None:
    """Return what error_stats says; None for its "invalid": the counters were not read yet."""
    from ...core.boot.health import Errors

    counts = dict(line.split(" ", 1) for line in text.splitlines() if " " in line)
    try:
        return Errors(*(int(counts[f"{name}_errs"]) for name in Errors._fields))
    except (KeyError, ValueError):  # see above
        return None


def _attribute(path: str) -> str | None:
    """Return a file of /sys, None if there is none. Raises KernelError on anything else."""
    with kernel_errors("read", path):
        try:
            with open(path, encoding="utf-8") as file:
                return file.read()
        except FileNotFoundError:  # as promised
            return None


def disks_of_btrfs(uuid: str) -> tuple[str, ...]:
    """Return the paths of the whole disks that a mounted btrfs is on, each once, sorted.

    Below what is mapped (LUKS, LVM, md), below partitions. Nothing where /sys is not mounted.
    """
    try:
        names = os.listdir(f"/sys/fs/btrfs/{uuid}/devices")
    except FileNotFoundError:  # as promised
        return ()
    # The kernel writes "/" in a name as "!", as of cciss/c0d0.
    disks = {disk for name in names for disk in disks_below(f"/sys/class/block/{name}")}
    return tuple(sorted("/dev/" + disk.replace("!", "/") for disk in disks))


def disks_below(link: str) -> Iterator[str]:
    """Give the names of the whole disks below a block device, by its place in sysfs or a link."""
    place = os.path.realpath(link)
    if os.path.exists(f"{place}/partition"):
        place = os.path.dirname(place)
    try:
        below = os.listdir(f"{place}/slaves")
    except FileNotFoundError:  # the device has gone
        return
    for name in below:
        yield from disks_below(f"{place}/slaves/{name}")
    if not below:
        yield os.path.basename(place)


def probe(device: str) -> dict[str, str]:
    """Return what a device holds: TYPE, UUID, PTTYPE and more, as blkid(8) names it."""
    lines = (_blkid("-p", "-o", "export", device) or "").splitlines()
    return {key: value for key, _, value in (line.partition("=") for line in lines)}


def btrfs_uuid(device: str) -> str:
    """Return the UUID of the btrfs on a device. Raises UnsupportedRootError for anything else."""
    found = probe(device)
    kind = found.get("TYPE", "")
    if kind == "btrfs":
        return found["UUID"]
    raise other_than("btrfs", device, found)


def is_btrfs(spec: str, uuid: str) -> bool:
    """Whether a path or a tag names a device of that btrfs; False if there is no such device."""
    try:
        return btrfs_uuid(find(spec)).lower() == uuid.lower()
    except Error:  # it means no device that is here, or one with something else on it
        return False


def other_than(wanted: str, device: str, found: dict[str, str]) -> UnsupportedRootError:
    """Return the error for a device with other contents than wanted; `found` is from probe()."""
    kind, hint = found.get("TYPE", ""), "'lsblk --fs' lists all devices and what is on them."
    said = "contains nothing that blkid(8) recognizes"
    if kind:
        said = f"is {kind}, not {wanted}"
        hint = _CONTAINERS.get(kind, hint).format(device)
    elif "PTTYPE" in found:
        said = f"is a disk with partitions, not {wanted}"
    if wanted == "ext4":
        hint = _INSTEAD_OF_EXT4.get(kind, hint)
    return UnsupportedRootError(f"{device} {said}", hint=hint)
