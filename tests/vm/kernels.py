# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernels as RPMs, and what makes boot entries for them in a machine.

Debian has kernel-install, and with it what makes entries on an ESP. What Fedora's grub2 and dracut
add to it is stood in for by one plugin that does the same to the same files.
"""

from __future__ import annotations

from pathlib import Path

from tests.sandbox.rpms import Package

from .base import Kernel
from .design import Boot, Design, Ext4Design

_INITRAMFS = "/usr/lib/modules/{version}/initramfs.img"

# In place of 50-dracut.install, here and below: the initramfs comes with the kernel.
_STAGE_INITRAMFS = """#!/bin/sh
set -eu
[ "$1:$KERNEL_INSTALL_LAYOUT" = add:bls ] || exit 0
cp "/usr/lib/modules/$2/initramfs.img" "$KERNEL_INSTALL_STAGING_AREA/initrd"
"""

_COPY_INITRAMFS = """#!/bin/sh
set -eu
[ "$1:$KERNEL_INSTALL_LAYOUT" = add:grub ] || exit 0
cp "/usr/lib/modules/$2/initramfs.img" "/boot/initramfs-$2.img"
"""

# Fedora's does just that; it has "other" for the name of this layout.
_MAKE_INITRAMFS = """#!/bin/sh
set -eu
[ "$1:$KERNEL_INSTALL_LAYOUT" = add:grub ] || exit 0
exec dracut --force "/boot/initramfs-$2.img" "$2"
"""

# In place of Fedora's 20-grub.install: the kernel's copy in /boot, a boot entry with the
# command line of /etc/kernel/cmdline and the paths that grub2-mkrelpath prints, and the new kernel
# as the default one (UPDATEDEFAULT=yes). The environment block has 1024 bytes and keeps them.
_GRUB_INSTALL = """#!/bin/sh
set -eu
command=$1 version=$2
[ "$KERNEL_INSTALL_LAYOUT" != bls ] || exit 0
entry=$KERNEL_INSTALL_MACHINE_ID-$version
if [ "$command" = remove ]; then
    rm -f "/boot/loader/entries/$entry.conf" "/boot/vmlinuz-$version" \\
        "/boot/initramfs-$version.img"
    exit 0
fi
[ "$command" = add ] || exit 0
cp "$4" "/boot/vmlinuz-$version"
point=$(findmnt --noheadings --output TARGET --target /boot)
seen=$(findmnt --noheadings --output FSROOT --target /boot)
[ "$point" = /boot ] || seen=$seen/boot
seen=$(echo "/$seen" | sed 's|//*|/|g; s|/$||')
cat >"/boot/loader/entries/$entry.conf" <<END
title Fedora Linux ($version) 41 (Test)
version $version
linux $seen/vmlinuz-$version
initrd $seen/initramfs-$version.img \\$tuned_initrd
options $(cat /etc/kernel/cmdline) \\$tuned_params
grub_users \\$grub_users
grub_arg --unrestricted
grub_class fedora
END
block=/boot/grub2/grubenv
{
    echo '# GRUB Environment Block'
    grep = "$block" | grep -v '^saved_entry='
    echo "saved_entry=$entry"
    head --bytes=1024 /dev/zero | tr '\\0' '#'
} | head --bytes=1024 >"$block.new"
mv "$block.new" "$block"
"""


def install_plugins(design: Design) -> dict[str, str]:
    """Return the files that let kernel-install know a machine's loader, by path from its root."""
    if design.boot is Boot.ESP:
        return {
            "etc/kernel/install.conf": "layout=bls\n",
            "etc/kernel/install.d/50-dracut.install": _STAGE_INITRAMFS,
        }
    made_there = isinstance(design, Ext4Design)
    return {
        "etc/kernel/install.conf": "layout=grub\n",
        "etc/kernel/install.d/20-grub.install": _GRUB_INSTALL,
        "etc/kernel/install.d/50-dracut.install": _MAKE_INITRAMFS
        if made_there
        else _COPY_INITRAMFS,
    }


def kernel_package(
    kernel: Kernel, *, replaces: bool = False, with_initramfs: bool = True
) -> Package:
    """Return a kernel as a package as Fedora's: modules and vmlinuz, boot files by kernel-install.

    dnf installs it beside the other versions; with `replaces` it takes their place, and their boot
    files and entries go with them, as when installonly_limit is reached. Where a machine makes its
    own initramfs the package is one without.
    """
    target = Path("/usr/lib/modules", kernel.version)
    inside = sorted(path for path in kernel.modules.rglob("*") if path.is_file())
    files = {str(target / path.relative_to(kernel.modules)): path for path in inside}
    if with_initramfs:
        files[_INITRAMFS.format(version=kernel.version)] = kernel.initramfs
    version, _, release = kernel.version.partition("-")
    provides = [f"kernel-uname-r = {version}-{release.replace('-', '.')}"]
    if not replaces:
        provides.append("installonlypkg(kernel)")
    return Package(
        "kernel-core",
        version,
        release.replace("-", "."),
        files=files,
        provides=provides,
        scriptlets={
            "posttrans": f"kernel-install add {kernel.version} {target}/vmlinuz",
            "preun": f"kernel-install remove {kernel.version}",
        },
    )
