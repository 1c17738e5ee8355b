# SPDX-License-Identifier: GPL-2.0-or-later
"""What cannot be read is unknown, and nobody acts on it as if there were none."""

from __future__ import annotations

import btrfsutil

from tests.kernel.commands import done, fs_rollback
from tests.kernel.machine import KERNEL, Machine
from tests.kernel.test_store import listed, store_of


def test_the_root_that_a_pinned_line_names_is_not_deleted(named: Machine) -> None:
    """No rollback is possible there, so which root is next is not decided; a boot finds one."""
    name = named.take()
    newer = named.take()
    number = btrfsutil.subvolume_id(str(store_of(named) / name))
    for path in ("etc/fstab", "etc/kernel/cmdline", f"boot/loader/entries/abc-{KERNEL}.conf"):
        text = named.read(path)
        assert "subvol=root" in text
        (named.root / path).write_text(text.replace("subvol=root", f"subvolid={number}"))
    assert fs_rollback(named.root, "rollback", newer, "--dry-run").code == 3
    ended = fs_rollback(named.root, "delete", name)
    assert (ended.code, "names it as the root" in ended.sentence) == (3, True), ended
    named.write(named.root, "etc/fs-rollback.conf", "keep_last = 1\nkeep_days = 0\n")
    done(named.root, "prune")
    assert list(listed(named)) == [name, newer]
