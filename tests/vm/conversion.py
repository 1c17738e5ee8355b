# SPDX-License-Identifier: GPL-2.0-or-later
"""What machines with an ext4 root are made of: a newer system, with what a conversion needs.

The btrfs-progs of the other machines are too old for one, and they have no dracut.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from tests.sandbox.base import DEBIAN_PACKAGES, built_once, digest
from tests.sandbox.namespace import Namespace

from .base import PREPARE, REACHED_BY, system
from .design import LOGICAL_VOLUME, VOLUME_GROUP

_SUITE = "trixie"
_PACKAGES = (
    *DEBIAN_PACKAGES,
    "systemd", "systemd-sysv", "udev", "kmod", "util-linux", "e2fsprogs", "dracut-core", "lvm2",
    "cryptsetup-bin", "mdadm", *REACHED_BY,
)  # fmt: skip

# Space is taken only by what is written. One of LVM's extents does not fit behind its header.
ROOT_BYTES = 6 * 1024**3
LVM_BYTES = ROOT_BYTES - 4 * 1024**2
LVM_START = 1024**2

# Arguments: TREE IMAGE. The host has no device mapper; LVM can do all of this without it.
_MAKE_LVM = f"""
set -eu
for name in dev proc sys; do mount --rbind "/$name" "$1/$name"; done
device=$(losetup --find --show "$2")
trap 'losetup --detach "$device"' EXIT
lvm() {{
    name=$1
    shift
    chroot "$tree" "$name" --driverloaded n --devices "$device" --nohints "$@"
}}
tree=$1
lvm pvcreate "$device"
lvm vgcreate --autobackup n {VOLUME_GROUP} "$device"
lvm lvcreate --autobackup n --activate n --zero n --wipesignatures n --extents 100%FREE \\
    --name {LOGICAL_VOLUME} {VOLUME_GROUP}
lvm lvs --noheadings --nosuffix --units b --options seg_pe_ranges,lv_size
lvm pvs --noheadings --nosuffix --units b --options pe_start
"""


@dataclass(frozen=True)
class ConversionBase:
    """The system as a tar file, and what LVM has at the begin of a disk with the root in one piece.

    That disk has ROOT_BYTES, and the volume of the root LVM_BYTES from LVM_START on.
    """

    tarball: Path
    lvm: Path


def conversion_base(cache: Path, *, say: Callable[[str], None]) -> ConversionBase:
    """Return the system; build it if it is not in the cache: a minute, and the network.

    Raises CalledProcessError when one of the tools fails.
    """
    tarball = system(cache, _SUITE, _SUITE, (_PACKAGES, (PREPARE,)), say)
    lvm = cache / f"vm-lvm-{digest(tarball.name, _MAKE_LVM, ROOT_BYTES, LVM_START)}"
    with built_once(lvm) as unfinished:
        if unfinished is not None:
            _make_lvm(tarball, unfinished)
    return ConversionBase(tarball, lvm)


def _make_lvm(tarball: Path, path: Path) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        tree, image = Path(scratch, "tree"), Path(scratch, "image")
        tree.mkdir()
        command = ["tar", "--extract", f"--file={tarball}", f"--directory={tree}"]
        subprocess.run([*command, "--exclude=./dev"], check=True)
        (tree / "dev").mkdir(exist_ok=True)
        with image.open("wb") as file:
            file.truncate(ROOT_BYTES)
        with Namespace() as namespace:
            script = ["sh", "-c", _MAKE_LVM, "make-lvm", os.fspath(tree), os.fspath(image)]
            said = namespace.run(script).stdout.split()
        extents = LVM_BYTES // (4 * 1024**2)
        assert said[-3].endswith(f":0-{extents - 1}"), said
        assert said[-2:] == [str(LVM_BYTES), str(LVM_START)], said
        with image.open("rb") as file, path.open("wb") as header:
            header.write(file.read(LVM_START))
            assert not file.read(LVM_START).strip(b"\0"), "LVM wrote behind its header"
        shutil.rmtree(tree)
