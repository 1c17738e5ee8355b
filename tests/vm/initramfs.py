# SPDX-License-Identifier: GPL-2.0-or-later
"""A small initramfs: busybox, the modules that a root on btrfs needs, and one script.

It does with `root=`, `rootflags=` and `init=` what dracut and initramfs-tools do with them, in a
tenth of their time: every boot of every test goes through it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

# Every `rootflags=` counts, joined by commas, as systemd-fstab-generator(8) does it in a dracut
# initramfs. `ro` and `rw`: the last one counts.
_INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
die() {
    echo "initramfs: $*"
    poweroff -f
}
while read -r module; do
    insmod "/modules/$module" || die "cannot load $module"
done </modules/order
root= flags= mode=ro type=btrfs init=/sbin/init
read -r line </proc/cmdline
for word in $line; do
    case $word in
        root=*) root=${word#root=} ;;
        rootflags=*) flags=$flags,${word#rootflags=} ;;
        rootfstype=*) type=${word#rootfstype=} ;;
        ro | rw) mode=$word ;;
        init=*) init=${word#init=} ;;
    esac
done
[ -n "$root" ] || die 'the command line has no root='
tries=0
while :; do
    case $root in
        UUID=* | LABEL=*) device=$(findfs "$root" 2>/dev/null) ;;
        *) device=$root ;;
    esac
    [ -z "$device" ] || [ ! -b "$device" ] || break
    tries=$((tries + 1))
    [ "$tries" -lt 100 ] || die "there is no $root"
    sleep 0.1
done
mkdir /sysroot
mount -t "$type" -o "$mode$flags" "$device" /sysroot ||
    die "cannot mount $device with $mode$flags"
[ -x "/sysroot$init" ] || [ -L "/sysroot$init" ] || die "the root has no $init"
mount --move /dev /sysroot/dev || die 'the root has no /dev'
umount /sys
umount /proc
exec switch_root /sysroot "$init"
"""

# In the order in which they can be loaded; what each needs is found in modules.dep.
_WANTED = ("virtio_pci", "virtio_blk", "crc32c_generic", "btrfs")


@dataclass(frozen=True)
class _Node:
    """One file of the archive; `data` is empty for all but regular files."""

    name: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


def write(path: Path, busybox: Path, modules: Path) -> None:
    """Write an initramfs for one kernel to `path`.

    `busybox` is a static one; `modules` is the kernel's directory of modules, with a modules.dep.
    Raises OSError where one of the files is missing.
    """
    order = _load_order(modules)
    directories = ("bin", "dev", "modules", "proc", "sys")
    nodes = [_Node(name, stat.S_IFDIR | 0o755) for name in directories]
    # Before devtmpfs is mounted the kernel gives init this as its console.
    nodes.append(_Node("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)))
    nodes.append(_Node("init", stat.S_IFREG | 0o755, _INIT.encode()))
    nodes.append(_Node("bin/busybox", stat.S_IFREG | 0o755, busybox.read_bytes()))
    names = [PurePosixPath(module).name for module in order]
    listing = "".join(f"{name}\n" for name in names).encode()
    nodes.append(_Node("modules/order", stat.S_IFREG | 0o644, listing))
    for name, module in zip(names, order):
        content = (modules / module).read_bytes()
        nodes.append(_Node(f"modules/{name}", stat.S_IFREG | 0o644, content))
    path.write_bytes(_archive(nodes))


def _load_order(modules: Path) -> list[str]:
    """Return the paths of the wanted modules and of what they need, the needed before."""
    needs: dict[str, list[str]] = {}
    for line in (modules / "modules.dep").read_text().splitlines():
        module, _, rest = line.partition(":")
        needs[module] = rest.split()
    by_name = {PurePosixPath(path).name.split(".")[0].replace("-", "_"): path for path in needs}
    order: list[str] = []
    for name in _WANTED:
        path = by_name.get(name)
        if path is None:  # built into this kernel; if it is not, the boot says what is missing
            continue
        # modules.dep(5): a module that is needed by another one of the list comes behind it.
        for needed in [*reversed(needs[path]), path]:
            if needed not in order:
                order.append(needed)
    return order


def _archive(nodes: Iterable[_Node]) -> bytes:
    """Return the files as a cpio archive in the "new ASCII" format, buffer-format.rst of Linux."""
    archive = b""
    for number, node in enumerate([*nodes, _Node("TRAILER!!!", 0)], start=1):
        name = os.fsencode(node.name) + b"\0"
        links = 2 if stat.S_ISDIR(node.mode) else 1
        fields = [number, node.mode, 0, 0, links, 0, len(node.data)]
        fields += [0, 0, *node.device, len(name), 0]
        header = b"070701" + b"".join(b"%08X" % field for field in fields)
        archive += _padded(header + name) + _padded(node.data)
    return archive


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
