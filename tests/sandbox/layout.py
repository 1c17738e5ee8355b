# SPDX-License-Identifier: GPL-2.0-or-later
"""How a sandbox finds its root at boot, and the files in it that say so, as Fedora writes them."""

from __future__ import annotations

import enum

REPOSITORY_FILE = "etc/yum.repos.d/sandbox.repo"
KERNEL = "6.11.4-301.fc41.x86_64"
_MACHINE_ID = "7d1f0c0e5b3c4f5ab2b0c7f6f2f2b9a1"


class Layout(enum.Enum):
    """Where the root is, and whether anything names it."""

    NAMED = "named"
    TOP_LEVEL = "top-level"

    @property
    def subvolume(self) -> str:
        """The path of the root subvolume from the top level; empty for the top level itself."""
        return {Layout.NAMED: "root", Layout.TOP_LEVEL: ""}[self]

    @property
    def description(self) -> str:
        """Say where the root is, for people."""
        return {Layout.NAMED: "a subvolume 'root'", Layout.TOP_LEVEL: "the top level"}[self]

    def options(self, uuid: str) -> str:
        """Return what follows the kernel's name on its command line."""
        flags = f" rootflags=subvol={self.subvolume}" if self.subvolume else ""
        return f"root=UUID={uuid} ro{flags} quiet"

    def command_line(self, uuid: str) -> str:
        """Return what /proc/cmdline says after a boot with `options`."""
        return f"BOOT_IMAGE=(hd0){self._boot}/vmlinuz-{KERNEL} {self.options(uuid)}"

    @property
    def _boot(self) -> str:
        """The path of /boot as the boot loader sees it: from the top level."""
        return f"/{self.subvolume}/boot" if self.subvolume else "/boot"


def root_files(layout: Layout, uuid: str, *, debian: bool) -> dict[str, str]:
    """Return the files that make a base system a machine, by path from its root."""
    files = {
        "boot/initramfs-" + KERNEL + ".img": "not an initramfs\n",
        "boot/loader/entries/" + f"{_MACHINE_ID}-{KERNEL}.conf": _boot_entry(layout, uuid),
        "boot/vmlinuz-" + KERNEL: "not a kernel\n",
        "etc/default/grub": _default_grub(layout),
        "etc/dnf/dnf.conf": DNF_CONF,
        # dnf 5's plugin `local` looks for packages of the administrator, at a second's cost.
        "etc/dnf/libdnf5-plugins/local.conf": "[main]\nname = local\nenabled = 0\n",
        "etc/fstab": _fstab(layout, uuid),
        "etc/kernel/cmdline": layout.options(uuid) + "\n",
        "etc/machine-id": _MACHINE_ID + "\n",
        REPOSITORY_FILE: REPOSITORY,
        "usr/lib/modules/" + KERNEL + "/modules.dep": "",
        "usr/lib/modules/" + KERNEL + "/vmlinuz": "not a kernel\n",
    }
    if debian:
        # Debian's rpm keeps the database of root in /root/.rpmdb, as its own is dpkg's.
        files["etc/rpm/macros"] = "%_dbpath /var/lib/rpm\n"
    return files


DNF_CONF = """\
[main]
gpgcheck=True
installonly_limit=3
clean_requirements_on_remove=True
best=False
skip_if_unavailable=True
"""

# /run/repo comes from the host: a rollback must not change what is on offer.
REPOSITORY = """\
[sandbox]
name=sandbox
baseurl=file:///run/repo
enabled=1
gpgcheck=0
metadata_expire=0
"""


def _boot_entry(layout: Layout, uuid: str) -> str:
    boot = layout._boot
    return f"""\
title Fedora Linux ({KERNEL}) 41 (Sandbox)
version {KERNEL}
linux {boot}/vmlinuz-{KERNEL}
initrd {boot}/initramfs-{KERNEL}.img $tuned_initrd
options {layout.options(uuid)} $tuned_params
grub_users $grub_users
grub_arg --unrestricted
grub_class fedora
"""


def _default_grub(layout: Layout) -> str:
    flags = f"rootflags=subvol={layout.subvolume} " if layout.subvolume else ""
    return f"""\
GRUB_TIMEOUT=5
GRUB_DISTRIBUTOR="$(sed 's, release .*$,,g' /etc/system-release)"
GRUB_DEFAULT=saved
GRUB_DISABLE_SUBMENU=true
GRUB_CMDLINE_LINUX="{flags}quiet"
GRUB_DISABLE_RECOVERY="true"
GRUB_ENABLE_BLSCFG=true
"""


def _fstab(layout: Layout, uuid: str) -> str:
    """Return a table as Anaconda writes it, aligned and with its comment."""
    header = """
#
# /etc/fstab
# Created by anaconda on Mon Nov 23 13:29:57 2026
#
# Accessible filesystems, by reference, are maintained under '/dev/disk/'.
# See man pages fstab(5), findfs(8), mount(8) and/or blkid(8) for more info.
#
"""
    entries = (
        [("/", "subvol=root,compress=zstd:1"), ("/home", "subvol=home,compress=zstd:1")]
        if layout is Layout.NAMED
        else [("/", "compress=zstd:1")]
    )
    lines = [f"UUID={uuid} {point:<23} btrfs   {options} 0 0\n" for point, options in entries]
    return header + "".join(lines)
