# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether what `root=` or fstab(5) names as a device is one certain filesystem.

Its UUID decides, never how it is written: any of its devices, under any name, is the filesystem.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable
from functools import cached_property
from typing import Optional

from ..linux import devices

# Numbered by the kernel in the order in which it finds them: another disk in a rescue system.
KERNEL_NAME = r"/dev/(?:[hsv]d[a-z]|xvd[a-z]|(?:nvme|mmcblk|loop|md|dm-)\d)"
_NUMBER = r"[0-9]+:[0-9]+"
# What blkid(8) calls the tags of partitions; a filesystem without a partition has none.
_OF_PARTITION = {"PARTUUID": "PART_ENTRY_UUID", "PARTLABEL": "PART_ENTRY_NAME"}
# Names of dracut(8) and of installers that say which encrypted device is inside.
_LUKS = r"/dev/mapper/luks-([0-9a-f-]{36})"


class Identity:
    """One filesystem: its UUID, and the numbers ("MAJOR:MINOR") of the devices it is on.

    `is_attached`: all disks of the machine are here, so a device's name means the same here as at
    its boot. `paths` are names of the devices that are known already.
    """

    def __init__(
        self, uuid: str, numbers: Iterable[str], *, is_attached: bool, paths: Iterable[str] = ()
    ) -> None:
        self.uuid = uuid
        self.numbers = frozenset(numbers)
        self._is_attached = is_attached
        self._paths = frozenset(paths)
        self._answers: dict[str, Optional[bool]] = {}

    def is_meant(self, spec: str) -> Optional[bool]:
        """Whether a specification of mount(8), or of `root=`, means this filesystem.

        None where that cannot be told from here: the device is not present, or another disk may
        have its name here. Each is looked up once; a UUID is only compared.
        """
        tagged = devices.as_tag(spec)
        if tagged.startswith("UUID="):
            return tagged[5:].lower() == self.uuid.lower()
        if tagged not in self._answers:
            self._answers[tagged] = self._look(tagged)
        return self._answers[tagged]

    def _look(self, spec: str) -> Optional[bool]:
        if devices.is_tag(spec):
            return self._has_tag(*spec.split("=", 1))
        if re.fullmatch(_NUMBER, spec):
            return spec in self.numbers
        if spec.startswith("/dev/"):
            return spec == "/dev/root" or self._has_device(spec)
        # A directory, a file, a share; or what only the initramfs understands: gpt-auto, fstab.
        return False if spec.startswith("/") or ":" in spec else None

    def _has_device(self, path: str) -> Optional[bool]:
        try:
            status = os.stat(path)
        except OSError:  # then only its name can tell, or nothing
            known = path in self._paths or path in self._names or self._is_inside(path)
            return True if known else None
        number = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
        if stat.S_ISBLK(status.st_mode) and number in self.numbers:
            return True
        return None if not self._is_attached and re.match(KERNEL_NAME, path) else False

    @cached_property
    def _names(self) -> frozenset[str]:
        """What the devices are called where udev(7) makes no links: in a chroot, a container."""
        found = set()
        for number in self.numbers:
            kernel = _read(f"/sys/dev/block/{number}/uevent").partition("DEVNAME=")[2]
            mapped = _read(f"/sys/dev/block/{number}/dm/name")
            found |= {f"/dev/{kernel.split()[0]}"} if kernel else set()
            found |= {f"/dev/mapper/{mapped}"} if mapped else set()
        return frozenset(found)

    def _is_inside(self, path: str) -> bool:
        """Whether the name is that of a LUKS device which was opened under another one here."""
        match = re.fullmatch(_LUKS, path)
        inside = f"-{match[1].replace('-', '')}-" if match else ""
        return bool(inside) and any(
            inside in _read(f"/sys/dev/block/{number}/dm/uuid") for number in self.numbers
        )

    def _has_tag(self, tag: str, value: str) -> Optional[bool]:
        link = devices.link_of(f"{tag}={value}")
        if tag == "LABEL":
            label = _read(f"/sys/fs/btrfs/{self.uuid}/label")
            if value not in ({label} if label else self._probed(tag)):
                return False
            # Another filesystem may have the same label.
            return True if not os.path.exists(link) else self._has_device(link) or None
        if os.path.exists(link):
            return self._has_device(link)
        found = {one.lower() for one in self._probed(_OF_PARTITION[tag])}
        if value.lower() in found:
            return True
        return None if "" in found or "/" in value else False  # PARTUUID=.../PARTNROFF=1

    def _probed(self, key: str) -> set[str]:
        """Return what blkid(8) says of the devices under a key, "" where it says nothing.

        Nothing for a key of partitions if no device is one.
        """
        wanted = self.numbers
        if key.startswith("PART_"):
            wanted = frozenset(n for n in wanted if _read(f"/sys/dev/block/{n}/partition"))
        return {devices.probe(devices.of_number(number)).get(key, "") for number in wanted}


def of_btrfs(uuid: str, paths: Iterable[str], *, is_attached: bool) -> Identity:
    """Return the identity of a mounted btrfs; `paths` are what it calls its devices."""
    directory = f"/sys/fs/btrfs/{uuid}/devices"
    numbers = {_read(f"{directory}/{name}/dev") for name in _names_in(directory)} - {""}
    named = [path for path in paths if path]
    if not numbers:  # no sysfs here, as in a chroot
        numbers = {devices.number_of(path) for path in named if os.path.exists(path)}
    return Identity(uuid, numbers, is_attached=is_attached, paths=named)


def _names_in(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except FileNotFoundError:  # no sysfs here, as in a chroot
        return []


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read().strip("\n")
    except OSError:  # no sysfs here, or a device without that: partitions only have some
        return ""
