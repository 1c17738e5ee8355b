# SPDX-License-Identifier: GPL-2.0-or-later
"""Each fstab is read once a command, and again after something has changed."""

from __future__ import annotations

import os
from collections import Counter

import pytest

from fs_rollback.cli.main import main
from fs_rollback.system.execute.trees import Operations
from fs_rollback.system.linux import files
from fs_rollback.system.machine.host import Host
from tests.kernel.ext4_prepared import Ext4Root
from tests.kernel.machine import Machine

_LOOKING = (("status",), ("list",), ("check",), ("rollback", "--dry-run"), ("undo", "--dry-run"))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    """Count how often the fstab of each tree is read, by the tree's device number."""
    found: Counter[int] = Counter()
    read = files.read_in_tree

    def counted(tree: int, path: str, *most: int) -> str | None:
        if path.strip("/") == "etc/fstab":
            found[os.fstat(tree).st_dev] += 1
        return read(tree, path, *most)

    monkeypatch.setattr(files, "read_in_tree", counted)
    return found


def test_each_is_read_once_a_command(machine: Machine, reads: Counter[int]) -> None:
    first = machine.upgrade()
    machine.upgrade(3)
    machine.roll_back(first)
    machine.reboot()
    for words in _LOOKING:
        reads.clear()
        main([words[0], "--root", str(machine.root), *words[1:]])
        assert set(reads.values()) == {1}, words
        assert machine.root.stat().st_dev in reads, words
        if words != ("list",):
            assert len(reads) > 1, "those of the boot menu's copies, or of the target"


def test_of_an_ext4_root_too(ext4_root: Ext4Root, reads: Counter[int]) -> None:
    main(["convert", "check", "--root", str(ext4_root.root)])
    assert list(reads.values()) == [1]


def test_what_was_written_is_read_again(named: Machine) -> None:
    def points(host: Host) -> list[str]:
        return [entry.point for entry in host.fstab_entries()]

    with named.writing() as (host, _):
        assert points(host) == ["/", "/home"]
        Operations(host).write_file("root", "etc/fstab", "tmpfs /tmp tmpfs defaults 0 0\n")
        assert points(host) == ["/tmp"]
        (named.root / "etc/fstab").write_text("")
        host.forget()
        assert points(host) == []
