# SPDX-License-Identifier: GPL-2.0-or-later
"""The README's way out of a root whose own programs are broken: a snapshot's roll it back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.dnf.scenes import app, dnf, installed, offer, snapshots
from tests.sandbox.layout import Layout
from tests.sandbox.machine import Sandbox
from tests.sandbox.namespace import Namespace

# As a person types it; $root is how mount finds the root subvolume.
_RESCUE = """
set -eux
image=$1 top=$2 good=$3 snapshot=$4 root=$5
mount -o loop,subvolid=5 "$image" "$top"
device=$(findmnt --noheadings --nofsroot --output SOURCE --mountpoint "$top")
ls "$top" "$top/fs-snapshots"
mount -o "subvol=fs-snapshots/$snapshot" "$device" "$good"
umount "$top"
for d in proc dev sys; do mount --rbind --make-rslave "/$d" "$good/$d"; done
mount -t tmpfs tmpfs "$good/run"
mount ${root:+-o "$root"} "$device" "$good/mnt"
chroot "$good" fs-rollback list --root /mnt
chroot "$good" fs-rollback rollback "$snapshot" --root /mnt --yes
chroot "$good" fs-rollback status --root /mnt || [ $? -eq 1 ]
umount --recursive "$good"
"""


def test_the_programs_of_a_snapshot(any_sandbox: Sandbox, tmp_path: Path) -> None:
    offer(any_sandbox, app("1"))
    dnf(any_sandbox, "install", "app")
    (snapshot,) = snapshots(any_sandbox)
    any_sandbox.run(["sh", "-c", "rm -r /usr/lib/python3*"])
    assert any_sandbox.run(["fs-rollback", "list"], check=False).returncode != 0
    any_sandbox.shutdown()
    root = "subvol=root" if any_sandbox.layout is Layout.NAMED else ""
    places = [tmp_path / "top", tmp_path / "good"]
    for place in places:
        place.mkdir()
    arguments = [any_sandbox.image, *places, snapshot["name"], root]
    with Namespace() as namespace:
        script = ["sh", "-c", _RESCUE, "rescue", *map(os.fspath, arguments)]
        said = namespace.run(script)
    assert "Rolled back" in said.stdout, said.stderr
    any_sandbox.boot()
    assert installed(any_sandbox) == ""
    assert any_sandbox.output("fs-rollback", "list")


# What the running kernel and the firmware say in a rescue system is of that, not of the machine.
_CHROOT = """
set -eux
image=$1 root=$2 line=$3
mount -o loop,subvol=root "$image" "$root"
mount -t proc proc "$root/proc"
mount --rbind --make-rslave /dev "$root/dev"
mount -t tmpfs tmpfs "$root/run"
echo "$line" >"$root/run/cmdline"
mount --bind "$root/run/cmdline" "$root/proc/cmdline"
mount -t tmpfs tmpfs "$root/sys"
mkdir -p "$root/sys/firmware/efi/efivars"
variable=LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f
printf '\\6\\0\\0\\0s\\0y\\0s\\0t\\0e\\0m\\0d\\0-\\0b\\0o\\0o\\0t\\0' \
    >"$root/sys/firmware/efi/efivars/$variable"
chroot "$root" fs-rollback check || [ $? -ne 2 ]
chroot "$root" fs-rollback rollback --yes
umount --recursive "$root"
"""


@pytest.mark.parametrize(
    "line", ["inst.stage2=hd:LABEL=Fedora inst.rescue", "root=live:CDLABEL=Fedora rd.live.image"]
)
def test_a_chroot_from_a_rescue_system(sandbox: Sandbox, tmp_path: Path, line: str) -> None:
    offer(sandbox, app("1"))
    dnf(sandbox, "install", "app")
    sandbox.shutdown()
    root = tmp_path / "root"
    root.mkdir()
    with Namespace(own_processes=True) as namespace:
        script = ["sh", "-c", _CHROOT, "rescue", os.fspath(sandbox.image), os.fspath(root)]
        said = namespace.run([*script, f"BOOT_IMAGE=(cd0)/vmlinuz {line}"])
    assert "systemd-boot, entries" not in said.stdout, "that is the medium's"
    assert "Rolled back" in said.stdout, said.stderr
    sandbox.boot()
    assert installed(sandbox) == ""
    assert not sandbox.path("/boot/loader/loader.conf").exists()
