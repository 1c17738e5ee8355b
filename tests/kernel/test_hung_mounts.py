# SPDX-License-Identifier: GPL-2.0-or-later
"""Mounts whose server is gone, over mount points of fstab, kept paths and the way to them."""

from __future__ import annotations

import subprocess

import pytest

from tests.kernel.commands import done, start
from tests.kernel.hung import hung
from tests.kernel.machine import Machine, run

PLACES = ("data", "home", "srv", "var/lib/big", "mnt/deep/down")
_TIMEOUT_S = 20.0


def test_no_command_waits_for_what_is_mounted(named: Machine) -> None:
    named.upgrade()
    named.write(named.root, "etc/fs-rollback.conf", "keep = /home /root /srv /data/x /link/y\n")
    (named.root / "link").symlink_to("data")
    for place in PLACES:
        (named.root / place).mkdir(parents=True, exist_ok=True)
    lines = [f"/dev/loop0 /{place} ext4 nofail 0 0\n" for place in (*PLACES, "data/in", "link/in")]
    fstab = named.root / "etc/fstab"
    fstab.write_text(fstab.read_text() + "".join(lines))
    with hung(*(named.root / place for place in PLACES)):
        for words in (
            ("check",),
            ("status",),
            ("create",),
            ("rollback", "--yes", "--keep", "/data/x"),
            ("check",),
            ("undo", "--yes"),
        ):
            process = start(named.root, *words)
            try:
                out, err = process.communicate(timeout=_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                raise
            assert "cannot be checked:" not in out, out
            if words[0] not in ("check", "status"):
                assert process.returncode == 0, err


@pytest.mark.parametrize("place", ["boot", "boot/efi"])
def test_nor_for_a_boot_directory(named: Machine, place: str) -> None:
    """What the boot loader reads decides, and cannot be checked: that is refused at once."""
    named.upgrade()
    (named.root / place).mkdir(exist_ok=True)
    with hung(named.root / place):
        for words in (("check",), ("rollback", "--yes"), ("create",)):
            process = start(named.root, *words)
            _, err = process.communicate(timeout=_TIMEOUT_S)
            assert process.returncode == 3, err
            assert f"hung (fuse) is mounted on {named.root / place}" in err
        run(*err.partition("Unmount it first: ")[2].split())
        done(named.root, "create")
