# SPDX-License-Identifier: GPL-2.0-or-later
"""What can be wrong with an ext4 root, one thing at a time, and what has to be said of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Callable, NamedTuple, Optional

from tests.kernel.ext4_images import (
    GIB,
    GRUB_CFG,
    NEW,
    OLD,
    UUID,
    WITHOUT_BTRFS,
    Tools,
    add_kernel,
    write,
)
from tests.kernel.machine import run

OTHER = "0a0a6f0c-5b5f-4f1c-9e0c-f6ff8a0b1c2d"
ENCRYPTED, VERIFIED = 0x80000 | 0x800, 0x80000 | 0x100000  # EXTENTS and what chattr(1) cannot set


class Case(NamedTuple):
    """What is changed on the image; what is said then, "verdict name: part of text or advice".

    `said` is all that is not ok, and what is ok where that is the point.
    """

    name: str
    said: tuple[str, ...]
    format: tuple[str, ...] = ()
    size_bytes: int = 0
    before: Sequence[str] = ()
    change: Optional[Callable[[Path], object]] = None
    after: Sequence[str] = ()
    tools: Tools = Tools()
    backup: bool = True


def _append(root: Path, path: str, text: str) -> None:
    write(root, path, (root / path).read_text() + text)


def _allocate(root: Path, path: str, size_bytes: int) -> None:
    """Make a large file without writing it."""
    with (root / path).open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size_bytes)


def _leave_free(root: Path, free_bytes: int) -> None:
    status = os.statvfs(root)
    _allocate(root, "srv/large", status.f_bfree * status.f_frsize - free_bytes)


def _small_files(root: Path) -> None:
    for number in range(4):  # in the inode, with inline_data
        write(root, f"srv/small{number}", "x")
    (root / "srv/small0").unlink()  # what was deleted is no user


def _large_attributes(root: Path) -> None:
    for name in ("one", "two"):
        os.setxattr(root / f"srv/{name}", "user.large", name.encode() * 5000)


def _systemd_boot(root: Path) -> None:
    write(root, "boot/loader/loader.conf", "timeout 3\n")
    run("rm", "-r", str(root / "boot/grub2"), str(root / "boot/efi"))


def _no_loader(root: Path) -> None:
    run("rm", "-r", str(root / "boot/grub2"), str(root / "boot/efi"))


def _os_release(text: str) -> Callable[[Path], object]:
    return lambda root: write(root, "etc/os-release", text)


def _all(*changes: Callable[[Path], object]) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        for one in changes:
            one(root)

    return change


FEATURES = [
    *(
        Case(f"{name}, not used", (f"ok ext4 features: {name} is enabled, but no file uses it",),
             after=after)
        for name, after in {
            "encrypt": ["tune2fs -O encrypt"],
            "verity": ["tune2fs -O verity"],
            "ea_inode": ["tune2fs -O ea_inode"],
            "inline_data": ["feature inline_data"],
        }.items()
    ),
    Case("inline_data", ("refused ext4 features: inline_data is used by 3 inodes",),
         before=["feature inline_data"], change=_small_files),
    Case("ea_inode", ("refused ext4 features: ea_inode is used by 2 inodes",),
         before=["tune2fs -O ea_inode"], change=_large_attributes),
    Case("encrypt", ("refused ext4 features: encrypt is used by 2 inodes",),
         after=["tune2fs -O encrypt", *(f"set_inode_field /srv/{name} flags {ENCRYPTED}"
                                        for name in ("one", "two"))]),
    Case("verity", ("refused ext4 features: with the letter V",),
         after=["tune2fs -O verity", f"set_inode_field /srv/one flags {VERIFIED}"]),
    Case("stable_inodes", ("ok ext4 features: supports all",), after=["feature stable_inodes"]),
    Case("meta_bg, encrypt not used", ("ok ext4 features: encrypt is enabled, but no file uses",),
         format=("-O", "meta_bg,^resize_inode,encrypt")),
    Case("meta_bg", ("ok ext4 features: supports all",), format=("-O", "meta_bg,^resize_inode")),
    Case("bigalloc", ("refused ext4 features: bigalloc is set", ),
         format=("-O", "bigalloc")),
    Case("quota and project", ("warning ext4 features: project is set",
                               "warning ext4 features: quota is set"),
         format=("-O", "quota,project")),
    Case("a bit unknown, compatible", ("refused ext4 features: compat 0x40000000 is set",),
         format=("-O", "^metadata_csum"), after=["bit 0x5c 0x40000000"]),
    Case("a bit unknown, to read", ("refused ext4 features: ro_compat 0x20000000 is set",),
         format=("-O", "^metadata_csum"), after=["bit 0x64 0x20000000"]),
    Case("blocks of 1 KiB", ("refused block size: 1024 bytes, but the page size",),
         format=("-b", "1024")),
    Case("inodes of 128 bytes", ("ok ext4 features: supports all",), format=("-I", "128")),
]  # fmt: skip
STATE = [
    Case("errors counted", ("warning ext4 state: errors in it: 3",),
         after=["set_super_value error_count 3"]),
    Case("errors in the state", ("warning ext4 state: e2fsck -f /dev/loop",),
         after=["set_super_value state 3"]),
    Case("no journal, cut off", ("refused ext4 state: was not unmounted cleanly",),
         format=("-O", "^has_journal"), after=["set_super_value state 0"]),
    Case("no journal", ("ok ext4 state: never",), format=("-O", "^has_journal"),
         after=["set_super_value lastcheck 0"]),
    Case("no spare superblock", ("refused ext4 state: it has no spare superblock",),
         format=("-O", "sparse_super2,^resize_inode", "-E", "num_backup_sb=0")),
    Case("a spare one elsewhere", ("refused ext4 state: Move the system",),
         format=("-g", "16384", "-O", "^resize_inode")),
    Case("under 2 GiB", ("refused free space: (59 %); at least 2.0 GiB must",),
         change=lambda root: _leave_free(root, 3 * GIB // 2)),
    Case("just under 2 GiB", ("refused free space: Free 0.1 GiB more",),
         change=lambda root: _leave_free(root, 2 * GIB - (1 << 20))),
    Case("just 2 GiB", ("ok free space: (80 %)",),
         change=lambda root: _leave_free(root, 2 * GIB + (1 << 20))),
    Case("under 15 %", ("refused free space: (14 %); at least 2.4 GiB must",), size_bytes=16 * GIB,
         change=lambda root: _leave_free(root, 9 * GIB // 4)),
]  # fmt: skip
FILES = [
    Case("no line for /", ("refused names: /etc/fstab has no line for /",),
         change=lambda root: write(root, "etc/fstab", "# nothing\n")),
    Case("a link as fstab", ("refused names: /etc/fstab is not a regular file",),
         change=_all(lambda root: (root / "etc/fstab").rename(root / "etc/other"),
                     lambda root: (root / "etc/fstab").symlink_to("other"))),
    Case("a protected fstab", (
         "refused names: /etc has the flag", "refused names: chattr -i -a /etc/fstab"),
         change=_all(lambda root: run("chattr", "+i", str(root / "etc/fstab")),
                     lambda root: run("chattr", "+a", str(root / "etc")))),
    Case("ext2_saved", ("refused way back: /ext2_saved exists",),
         change=lambda root: (root / "ext2_saved").symlink_to("srv")),
    Case("root=ZFS", ("warning names: /etc/kernel/cmdline says ZFS=tank/root",),
         change=lambda root: write(root, "etc/kernel/cmdline", "root=ZFS=tank/root ro\n")),
    Case("another UUID", (f"warning names: /etc/fstab says UUID={OTHER}, but /dev/loop",),
         change=lambda root: write(root, "etc/fstab", f"UUID={OTHER} / ext4 defaults 0 1\n")),
    Case("by label", ("ok names: /etc/fstab says LABEL=system, which stays",),
         change=lambda root: write(root, "etc/fstab", "LABEL=system / ext4 defaults 0 1\n")),
    Case("mounted twice", before=("tune2fs -L system",), said=(
         "warning names: fstab line 3, 'UUID=", "warning names: fstab line 4, 'LABEL=system /b"),
         change=lambda root: _append(root, "etc/fstab", f'UUID="{UUID.upper()}" /a ext4 ro 0 0\n'
                                     "LABEL=system /b ext3,ext4 noauto 0 0\n")),
    Case("another line of the root", ("warning names: /etc/fstab line 2, '/dev/x / ext4': it",),
         change=lambda root: write(root, "etc/fstab", "/dev/x / ext4\n/dev/x / ext4\n")),
    Case("mounted elsewhere as it will be", ("ok names: /etc/fstab says UUID=",),
         change=lambda root: _append(root, "etc/fstab", f"UUID={UUID} /a auto\n{OTHER} /b ext4\n"
                                     f"UUID={OTHER} /home ext4 defaults 0 2\n/srv /c none bind")),
    Case("quotas", ("warning quotas: quota,usrjquota=aquota.user,jqfmt=vfsv1",),
         change=lambda root: write(root, "etc/fstab", f"UUID={UUID} / ext4 quota,noatime,grpjquota="
                                   ",noquota,usrjquota=aquota.user,jqfmt=vfsv1 1 1\n")),
    Case("the entry of another system", ("ok names: a boot entry says",),
         change=lambda root: write(root, "boot/loader/entries/other.conf",
                                   f"title Other\nlinux /vmlinuz\noptions root=UUID={OTHER}\n")),
    Case("a swap file", ("refused swap files: there is a swap file on it: /srv/swap",),
         change=_all(
             lambda root: _append(root, "etc/fstab", "/srv/swap none swap defaults 0 0\n"),
             lambda root: write(root, "srv/swap", ""))),
    Case("swap elsewhere", ("ok swap files: none on it",),
         change=lambda root: _append(root, "etc/fstab", f"UUID={OTHER} none swap defaults 0 0\n"
                                     "/home/swap none swap defaults 0 0\n")),
    Case("GRUB of a BIOS", ('warning boot loader: grub2-install --modules="part_gpt part_msdos lvm'
                            ' btrfs ext2" /dev/loop',),
         change=lambda root: run("rm", "-r", str(root / "boot/efi"))),
    Case("GRUB of EFI without btrfs", ("refused boot loader: and cannot read btrfs",),
         change=lambda root: write(root, "boot/efi/EFI/fedora/grubx64.efi", WITHOUT_BTRFS)),
    Case("one GRUB of two without", ("warning boot loader: and may be unable to",),
         change=lambda root: write(root, "boot/efi/EFI/other/grubx64.efi", WITHOUT_BTRFS)),
    Case("GRUB without entries", ("ok boot loader: and it can read btrfs",),
         change=lambda root: write(root, "boot/grub2/grub.cfg", GRUB_CFG.replace("blscfg", "#"))),
    Case("systemd-boot", ("refused boot loader: systemd-boot reads /boot on the root",),
         change=_systemd_boot),
    Case("no known loader", ("warning boot loader: the boot loader reads /boot",),
         change=_no_loader),
    Case("SELinux", ("ok SELinux: enforcing; labels",),
         change=lambda root: write(root, "etc/selinux/config", "#\nSELINUX=enforcing\n")),
    Case("SELinux off", ("ok SELinux: disabled",),
         change=lambda root: write(root, "etc/selinux/config", "SELINUX=disabled\n")),
    Case("Oracle", ("warning distribution: Oracle Linux 9: Oracle's manuals",),
         change=_os_release("ID='ol'\nPRETTY_NAME='Oracle Linux 9'\n")),
    Case("Red Hat", ("warning distribution: rhel: Red Hat does not support btrfs",),
         change=_os_release("ID=rhel\n")),
    Case("unknown system", ("warning distribution: Linux: not known",),
         change=_os_release("ID=plamo\nPRETTY_NAME=Linux\n")),
    Case("no os-release", ("warning distribution: unknown: not known",),
         change=lambda root: (root / "etc/os-release").unlink()),
    Case("no backup", ("warning backup: is there a backup",), backup=False),
]  # fmt: skip
KERNELS = [
    Case("no kernel with btrfs", (f"refused kernels: no kernel has btrfs: {OLD}",),
         change=lambda root: add_kernel(root, OLD, btrfs=False)),
    Case("no kernel", ("refused kernels: no kernel has btrfs: none found",),
         change=lambda root: run("rm", "-r", str(root / "usr/lib/modules"))),
    Case("an old one without", (f"warning kernels: {OLD} has no btrfs",),
         change=_all(lambda root: add_kernel(root, NEW),
                     lambda root: add_kernel(root, OLD, btrfs=False))),
    Case("the default one without", (f"refused kernels: Make {OLD} the default entry",),
         change=lambda root: add_kernel(root, NEW, btrfs=False)),
    Case("two with", (f"ok kernels: {OLD}", f"ok kernels: {NEW}"),
         change=lambda root: add_kernel(root, NEW)),
    Case("built in", (f"ok kernels: {OLD} has btrfs", f"ok initramfs: {OLD}.img has btrfs"),
         change=_all(
             lambda root: add_kernel(root, OLD, btrfs=False, in_initramfs=False),
             lambda root: _append(root, f"usr/lib/modules/{OLD}/modules.builtin",
                                  "kernel/fs/btrfs/btrfs.ko\n"))),
    Case("no btrfs in the initramfs", ("warning initramfs: has no btrfs yet",),
         change=lambda root: add_kernel(root, OLD, in_initramfs=False)),
    Case("no initramfs", (f"refused initramfs: {OLD} has no initramfs, neither in its boot entry",),
         change=lambda root: (root / f"boot/initramfs-{OLD}.img").unlink()),
    Case("no archive", ("warning initramfs: has btrfs: lsinitrd",),
         change=lambda root: write(root, f"boot/initramfs-{OLD}.img", "not an archive")),
    Case("its own command line", ("warning initramfs: has btrfs: lsinitrd",),
         tools=Tools(lister='[ "$1" != -f ] || exit 1; cpio --list --quiet < "$1"; echo init; '
                            "echo etc/cmdline.d/own.conf")),
    Case("no lsinitrd", ("warning initramfs: neither lsinitrd nor lsinitramfs is installed",),
         tools=Tools(lister="")),
    Case("no dracut", ("warning initramfs: neither dracut nor initramfs-tools",),
         tools=Tools(builder="")),
    Case("no btrfs-progs", ("refused btrfs-progs: dnf install",), tools=Tools(progs="")),
    Case("btrfs-progs too old", ("refused btrfs-progs: 6.8.1 is too old: before 6.9",),
         tools=Tools(progs="6.8.1")),
    Case("btrfs-progs old", ("warning btrfs-progs: 6.9 works; 6.17.1 or later",),
         tools=Tools(progs="6.9")),
]  # fmt: skip
