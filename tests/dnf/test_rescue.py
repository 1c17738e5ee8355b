# SPDX-License-Identifier: GPL-2.0-or-later
"""What docs/rescue.md says to type if the root's own programs are broken is typed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.dnf.scenes import app, dnf, installed, offer, snapshots
from tests.pages import TOP, commands
from tests.sandbox.layout import Layout
from tests.sandbox.machine import Sandbox
from tests.sandbox.namespace import Namespace

_SECTION = "Without it: run the copy inside a snapshot"


def _typed(snapshot: str, top: Path, good: Path, *, named: bool) -> str:
    """Return what the page says to type, on a machine whose /boot is in its root."""
    lines = commands(TOP / "docs" / "rescue.md", _SECTION)
    other_mounts = [line for line in lines if line.startswith(("mount BOOT ", "mount /dev/"))]
    assert len(other_mounts) == 2
    script = "\n".join(line for line in lines if line not in (*other_mounts, "reboot"))
    for old, new in (
        ("DEV", '"$device"'),
        ("yum_20261123132957", snapshot),
        ("rollback ID", f"rollback {snapshot} --yes"),
        ("-o subvol=root ", "-o subvol=root " if named else ""),
        ("/mnt/top", os.fspath(top)),
        ("/mnt/good", os.fspath(good)),
    ):
        assert old in script
        script = script.replace(old, new)
    return f'set -eux\ndevice=$(losetup --find --show "$1")\n{script}\nlosetup --detach $device\n'


def test_the_programs_of_a_snapshot(any_sandbox: Sandbox, tmp_path: Path) -> None:
    offer(any_sandbox, app("1"))
    dnf(any_sandbox, "install", "app")
    (snapshot,) = snapshots(any_sandbox)
    any_sandbox.run(["sh", "-c", "rm -r /usr/lib/python3*"])
    assert any_sandbox.run(["fs-rollback", "list"], check=False).returncode != 0
    any_sandbox.shutdown()
    named = any_sandbox.layout is Layout.NAMED
    script = _typed(snapshot["name"], tmp_path / "top", tmp_path / "good", named=named)
    with Namespace() as namespace:
        said = namespace.run(["sh", "-c", script, "rescue", os.fspath(any_sandbox.image)])
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
