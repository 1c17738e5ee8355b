# SPDX-License-Identifier: GPL-2.0-or-later
"""What the steps of a preparation do, on a real machine. Paths are from its root."""

from __future__ import annotations

import hashlib
import os
import stat
from contextlib import suppress

from ...core.formats.mountinfo import is_within
from ...errors import RefusedError, StoreError, kernel_errors
from ...system.linux import durable, files, process, syscalls
from ...system.linux.durable import remove_file, write_file
from ...system.loader import entries, settings
from ...system.machine import kernels
from ...system.machine.host import Host
from ..machine import initramfs
from ..machine.machine import LAYOUT, Ext4Machine
from ..plan.plan import sum_file


class Operations:
    """convert.plan.steps.Operations on a machine."""

    def __init__(self, machine: Ext4Machine) -> None:
        self._machine = machine
        self.not_chosen = ""  # why the next boot could not be chosen

    def read_file(self, path: str) -> str | None:
        """Return a text file, None if there is none."""
        return files.read_in_tree(self._machine.root_fd, path)

    def write_file(self, path: str, text: str, mode: int) -> None:
        """Write a text file durably and whole; an existing one keeps owner, mode, attributes."""
        full = self._path(path)
        with kernel_errors("make", f"/{os.path.dirname(path)}"):
            os.makedirs(os.path.dirname(full), exist_ok=True)
        write_file(full, text, mode)

    def remove_file(self, path: str) -> None:
        """Remove a file durably, whole or unfinished; nothing to do if there is none."""
        remove_file(self._path(path), "", durable.TEMPORARY)

    def remove_unfinished(self, path: str) -> None:
        """Remove what a killed process has begun to write there; the file itself stays."""
        remove_file(self._path(path), durable.TEMPORARY)

    def make_image(self, version: str, path: str, *, converts: bool) -> None:
        """Make the initramfs of a kernel, durable and whole; `converts`: the one that converts.

        Of any other it is written down first what it will be.
        """
        full = self._path(path)
        unfinished = full + durable.TEMPORARY
        try:
            process.run(initramfs.command(self._machine, unfinished, version, converts=converts))
            built_in = initramfs.is_built_in(self._machine, version)
            found = initramfs.look_into(unfinished)
            if not built_in and found.has_btrfs is False:
                raise StoreError(
                    f"the new initramfs of {version} has no btrfs",
                    hint="The configuration of its builder may omit it: see /etc/dracut.conf.d.",
                )
            if found.words:
                raise StoreError(
                    f"the new initramfs of {version} contains {' '.join(found.words)} itself, which"
                    " prevents mounting a btrfs",
                    hint='Make dracut omit it: hostonly_cmdline="no" in /etc/dracut.conf.d. Other'
                    " options that the boot needs (rd.luks, rd.lvm) must then be on the kernel"
                    " command line.",
                )
            if converts and found.missing:
                raise StoreError(
                    f"the initramfs that converts has no {', no '.join(found.missing)}",
                    hint="Convert from a rescue system: use 'fs-rollback convert prepare' without"
                    " --at-next-boot.",
                )
            if not converts:
                self.write_file(sum_file(path), _sum(unfinished), 0o600)
            _publish(unfinished, full, like_before=True)
        finally:
            with suppress(OSError):  # it has its name by then; or a leftover, which is written over
                os.unlink(unfinished)

    def keep(self, path: str, kept: str) -> None:
        """Give the file another name beside its own, durably; nothing to do if that is there."""
        full, other = self._path(path), self._path(kept)
        if os.path.lexists(other) or not os.path.lexists(full):
            return
        directory, name = os.path.split(other)
        with files.opened(directory) as opened, kernel_errors("keep", full):
            try:
                os.link(full, other)
                os.fsync(opened)
            except PermissionError:  # vfat has no second names
                mode = stat.S_IMODE(os.stat(full).st_mode)
                durable.replace(opened, name, files.chunks(full), mode=mode, for_loader=True)

    def put_back(self, version: str, kept: str, path: str) -> None:
        """Put the kept initramfs of a kernel back, durably; nothing to do if it is not there.

        Where what somebody else has made or removed would be lost with that, only the kept one
        goes.
        """
        if os.path.lexists(self._path(kept)):
            if self._is_ours(version, path):
                _publish(self._path(kept), self._path(path))
            remove_file(self._path(kept), "")
        self.remove_file(sum_file(path))

    def _is_ours(self, version: str, path: str) -> bool:
        """Whether it was made here what lies at the path of a kernel's initramfs.

        Known by its content, which was written down before it got its name: until then the old one
        is there and stays, and no clock decides. One that is gone went with its kernel, or is
        missed.
        """
        full = self._path(path)
        if not os.path.lexists(full):
            return version in kernels.with_modules(self._machine.root_fd)
        if not stat.S_ISREG(os.lstat(full).st_mode):
            return False
        return self.read_file(sum_file(path)) == _sum(full)

    def boot_once(self, entry: str) -> str:
        """Have the next boot use the entry of this file name; return why that cannot be, or ""."""
        try:
            self.not_chosen = self._boot_once(entry)
        except StoreError as error:  # the rest does not hang on it
            self.not_chosen = str(error)
        return self.not_chosen

    def _boot_once(self, entry: str) -> str:
        found = entries.read(self._machine, LAYOUT)
        wanted = [b.entry for b in found.bootables if os.path.basename(b.entry.file) == entry]
        if not wanted:
            return f"there is no entry {entry}"
        return settings.set_once(
            self._machine, found.places, found.choice, found.setting, wanted[0]
        )

    def forget_boot_once(self, entry: str) -> None:
        """Take that back; nothing to do if the next boot uses another one."""
        forget_boot_once(self._machine, entries.read(self._machine, LAYOUT), entry)

    def _path(self, path: str) -> str:
        refuse_outside(self._machine, path)
        return os.path.join(self._machine.root, path)


def refuse_outside(machine: Host, path: str) -> None:
    """Raise RefusedError if the directory of a path from the root lies in another system.

    What is read is found as if the root were /; what is written goes where links lead from here.
    """
    directory = os.path.dirname(path)
    real = os.path.realpath(os.path.join(machine.root, directory))
    if not is_within(real, machine.root):
        raise RefusedError(
            f"/{directory} of {machine.root} leads outside of it, to {real}",
            hint="Make the symbolic link in that path relative, or run this in a chroot(1) of that"
            " root.",
        )


def forget_boot_once(machine: Host, found: entries.Boot, entry: str) -> None:
    """Have the next boot not use the entry of this file name, if it would."""
    setting = settings.one_shot(found.choice, found.setting)
    if setting is not None and setting.value in (entry, entry[: -len(".conf")]):
        settings.write_setting(machine, setting.file, setting.key, None)


def _sum(full: str) -> str:
    """Return the checksum of a file as a line. Raises KernelError."""
    found = hashlib.sha256()
    for chunk in files.chunks(full):
        found.update(chunk)
    return f"{found.hexdigest()}\n"


def _publish(unfinished: str, full: str, *, like_before: bool = False) -> None:
    """Give a finished file its name; what a boot loader reads is whole at any time.

    `like_before`: with the mode, owner and attributes of the file that it replaces.
    """
    directory, name = os.path.split(full)
    with files.opened(directory) as opened, kernel_errors("write", full):
        if like_before and os.path.lexists(full):
            durable.make_alike(opened, name, os.lstat(full))
        descriptor = os.open(unfinished, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        syscalls.sync_for_loader(opened)
        os.rename(unfinished, name, dst_dir_fd=opened)
        os.fsync(opened)
        syscalls.sync_for_loader(opened)
