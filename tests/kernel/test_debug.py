# SPDX-License-Identifier: GPL-2.0-or-later
"""What --debug shows: the programs that are started, and what changes on the disk."""

from __future__ import annotations

import re

import pytest

from tests.kernel.commands import Done, done, fs_rollback
from tests.kernel.machine import Machine

_LINE = "fs-rollback: debug: "


def _shown(ended: Done) -> list[str]:
    return [line[len(_LINE) :] for line in ended.err.splitlines() if line.startswith(_LINE)]


def test_every_change_of_a_rollback(named: Machine) -> None:
    name = named.upgrade()
    ended = done(named.root, "rollback", name, "--yes", "--debug")
    shown = _shown(ended)
    store = "/fs-snapshots"
    assert any(re.fullmatch(rf"rename {store}/pending.json\S+ to {store}/pending.json", line)
               for line in shown), shown  # fmt: skip
    new = r"/fs-snapshots/root_\d{14}"
    for pattern in (
        rf"snapshot /fs-snapshots/{name} to {new}",
        rf"exchange /root and {new}",
        r"mount writable subvolume ID 5 of /dev/loop\d+",
        r"write A-fs-snapshot-\d{14}\.conf",
        rf"rename {new} to /fs-snapshots/replaced_\d{{14}}",
        r"write replaced_\d{14}.json\S*",
    ):
        assert any(re.fullmatch(pattern, line) for line in shown), f"{pattern}: {shown}"
    plain = done(named.root, "undo", "--yes")
    assert _shown(plain) == []


def test_a_deletion(named: Machine) -> None:
    name = named.take()
    shown = _shown(done(named.root, "delete", name, "--debug"))
    assert f"rename /fs-snapshots/{name} to /fs-snapshots/deleted_{name}" in shown
    assert f"delete subvolume /fs-snapshots/deleted_{name}" in shown
    assert f"remove /fs-snapshots/deleted_{name}.json" in shown


@pytest.mark.parametrize("words", [("list",), ("status",), ("show", "latest")])
def test_what_only_looks_changes_nothing(named: Machine, words: tuple[str, ...]) -> None:
    named.upgrade()
    shown = _shown(fs_rollback(named.root, *words, "--debug"))
    assert [line for line in shown if not line.startswith(("mount ", "run "))] == []
