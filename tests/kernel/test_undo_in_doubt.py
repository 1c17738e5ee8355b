# SPDX-License-Identifier: GPL-2.0-or-later
"""An undo of a rollback that waits, where it is in doubt whose that is and whether it was used."""

from __future__ import annotations

import os
from pathlib import Path

import btrfsutil

from tests.kernel.commands import done, fs_rollback
from tests.kernel.faults import state
from tests.kernel.machine import Machine, run
from tests.kernel.reboots import rolled_back
from tests.kernel.running import begin_boot
from tests.kernel.test_store import listed


def test_another_machine_that_shares_the_filesystem(named: Machine) -> None:
    """Its undo would take back what it never made."""
    named.write(named.root, "etc/machine-id", "a" * 32 + "\n")
    rolled_back(named)
    named.use(2)
    other = named.top / "other"
    btrfsutil.create_snapshot(str(named.root), str(other))
    named.write(other, "etc/machine-id", "b" * 32 + "\n")
    run("umount", str(named.root))
    begin_boot(named.root)
    run("mount", "-o", "loop,subvol=other", str(named.image), str(named.root))
    before = state(named)
    for words in (("undo", "--yes"), ("settle", "--forget")):
        ended = fs_rollback(named.root, *words)
        ended.expect_refusal("another machine")
    assert state(named) == before


def test_a_rescue_system_that_only_reads_the_new_root(named: Machine) -> None:
    """As a person mounts it, with times of access: what the rollback wrote there is not used."""
    rolled_back(named)
    before = (named.next_root() / "etc/fstab").stat().st_ctime_ns
    place = named.top.parent / "mnt"
    place.mkdir()
    run("mount", "-o", "loop,strictatime,subvol=root", str(named.image), str(place))
    try:
        for tree, _, names in os.walk(place):
            for name in names:
                Path(tree, name).read_bytes()
    finally:
        run("umount", str(place))
    assert (named.next_root() / "etc/fstab").stat().st_ctime_ns == before
    assert "Rollback canceled" in done(named.root, "undo", "--yes").out
    assert [row["kind"] for row in listed(named).values()] == ["pre"]
