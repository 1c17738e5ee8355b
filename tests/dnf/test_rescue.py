# SPDX-License-Identifier: GPL-2.0-or-later
"""The README's way out of a root whose own programs are broken: a snapshot's roll it back."""

from __future__ import annotations

import os
from pathlib import Path

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
