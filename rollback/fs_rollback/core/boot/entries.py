# SPDX-License-Identifier: GPL-2.0-or-later
"""Which boot entry fits which root: an entry fits a root that has its kernel's modules."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple, Optional

from ..formats.bls import BootEntry
from ..formats.cmdline import root_arguments, words
from ..loader.choice import Choice, Loader
from ..loader.loaders import default_entry, ordered
from ..loader.menu_names import SNAPSHOT_ENTRY_PREFIX, is_snapshot_entry
from ..snapshots.names import TRIAL_PREFIX, is_moment
from ..snapshots.snapshot import STORE
from .layout import Statement

# What the boot that converts finds on its command line, with the name of the root behind it:
# packaging/dracut/90fs-rollback/convert.sh.
CONVERT = "fs-rollback.convert="
# What a guarded boot has on its command line. The kernel takes it for a parameter of a module that
# there is not, and passes it to nobody. packaging/systemd/fs-rollback-guard-generator.
GUARDED = "fs_rollback.guard"
_IMAGE_PREFIXES = ("vmlinuz-", "vmlinux-", "linux-", "kernel-")
_MACHINE_ID = r"([0-9a-f]{32})-"
_IMAGE_NAMES = ("linux", "vmlinuz", "vmlinux")


class Bootable(NamedTuple):
    """A boot entry, and what the machine says about it.

    `kernel` is the version whose modules it needs, "" for rescue images and if unknown. `missing`
    are files that it names but that do not exist. `follows`: it reverts with the root. `ours`: it
    boots the filesystem of the root, as far as known. `leads`: it boots the root itself. `foreign`:
    it belongs to another system. `said` is what it says about the root, if that is ours.
    """

    entry: BootEntry
    kernel: str
    missing: tuple[str, ...]
    follows: bool
    ours: bool
    leads: bool = True
    foreign: bool = False
    said: Optional[Statement] = None

    @property
    def of_snapshot(self) -> bool:
        """Whether it is one of the entries that this program made for a snapshot."""
        return is_snapshot_entry(self.entry)

    @property
    def converts(self) -> bool:
        """Whether it is the entry that converts the root to btrfs, once."""
        return any(word.startswith(CONVERT) for word in self.entry.options.split())

    @property
    def is_guarded(self) -> bool:
        """Whether it is the entry of a guarded boot, once."""
        return is_guarded(self.entry.arguments)

    @property
    def initramfs(self) -> str:
        """The file that the first program of the boot is in, as the entry names it; "" if none.

        There may be others beside it, microcode or what tuned(8) adds. dracut(8) and
        initramfs-tools put the kernel's version into its name; kernel-install(8) does not, and puts
        it behind the others.
        """
        there = [w for w in self.entry.initrd if w.startswith("/") and w not in self.missing]
        of_kernel = [w for w in there if self.kernel and self.kernel in w.rpartition("/")[2]]
        return (of_kernel or there or [""])[-1]

    @property
    def usable(self) -> bool:
        """Whether it is a normal entry of this root whose files are all there."""
        special = self.of_snapshot or self.converts
        return self.leads and self.ours and bool(self.kernel) and not self.missing and not special

    def fits(self, modules: Collection[str]) -> bool:
        """Whether it can boot a root that has modules for these kernels."""
        return self.usable and self.kernel in modules


def is_guarded(command_line: str) -> bool:
    """Whether a boot with this command line is a guarded one."""
    return any(word.partition("=")[0] == GUARDED for word in words(command_line))


def kernel_version(entry: BootEntry) -> str:
    """Return the version of the kernel that an entry starts, "" if unknown.

    The name of the image counts (vmlinuz-VERSION, or VERSION/linux as kernel-install(8) lays it
    out), then what the entry says itself.
    """
    parts = entry.linux.split("/")
    name = parts[-1]
    found = entry.version
    for prefix in _IMAGE_PREFIXES:
        if name.startswith(prefix):
            found = name[len(prefix) :]
    if name in _IMAGE_NAMES and len(parts) > 2:
        found = parts[-2]
    return "" if "rescue" in found else found


def machine_of(entry: BootEntry) -> str:
    """Return the machine-id(5) of an entry, from its key or its name; "" if it has none."""
    match = re.match(_MACHINE_ID, entry.name)
    return entry.machine_id or (match[1] if match else "")


def trial_of(entry: BootEntry) -> str:
    """Return the name, in the store, of the copy that a snapshot's entry boots; "" for others.

    The file name says it: grub2-mkconfig(8) and grubby(8) rewrite the options of every entry.
    """
    moment = entry.id.partition(SNAPSHOT_ENTRY_PREFIX)[2] if is_snapshot_entry(entry) else ""
    return TRIAL_PREFIX + moment if is_moment(moment) else ""


def leads_to_trial(entry: BootEntry) -> bool:
    """Whether the options of a snapshot's entry lead to the copy that its name says."""
    flags = root_arguments(entry.arguments).flags
    named = [flag for flag in flags if flag.startswith("subvol=")]
    by_id = any(flag.startswith("subvolid=") for flag in flags)
    wanted = f"{STORE}/{trial_of(entry)}"
    return not by_id and bool(named) and named[-1][len("subvol=") :].strip("/") == wanted


def is_elsewhere(bootable: Bootable) -> bool:
    """Whether an entry boots another filesystem than the root's: it belongs to another system.

    An entry that names no root may belong to either system.
    """
    return not bootable.ours and bool(root_arguments(bootable.entry.arguments).root)


def default_of(choice: Choice, bootables: Sequence[Bootable]) -> Optional[Bootable]:
    """Return the default entry; None if that cannot be determined."""
    found = default_entry(choice, [bootable.entry for bootable in bootables])
    return next((b for b in bootables if found is not None and b.entry == found), None)


def best_fit(
    choice: Choice, bootables: Sequence[Bootable], modules: Collection[str], former: str
) -> Optional[Bootable]:
    """Return the entry to boot a root that has modules for these kernels; None if none fits.

    That is the one that was the default when the root was last in use (`former`, an ID, "" if
    unknown), otherwise the current default, otherwise the newest.
    """
    fitting = [bootable for bootable in bootables if bootable.fits(modules)]
    once_default = next((b for b in fitting if b.entry.id == former), None)
    default = default_of(choice, bootables)
    return once_default or (default if default in fitting else newest(fitting))


def newest(bootables: Iterable[Bootable]) -> Optional[Bootable]:
    """Return the one with the newest kernel, as the menu of GRUB sorts them."""
    by_entry = {bootable.entry: bootable for bootable in bootables}
    first = ordered(Loader.GRUB, list(by_entry))
    return by_entry[first[0]] if first else None
