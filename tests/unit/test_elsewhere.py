# SPDX-License-Identifier: GPL-2.0-or-later
"""Why a machine came up in another root: one reason, and what to do about it."""

from __future__ import annotations

from typing import Optional

import pytest

from fs_rollback.core.boot.layout import Statement
from fs_rollback.core.rollback.wrong_root import explain
from fs_rollback.core.snapshots.snapshot import Subvolume
from tests.unit.samples import NOW, uuid_of


def _subvolume(number: int, path: str) -> Subvolume:
    return Subvolume(number, path, uuid_of(number), 5, "", False, NOW, number)


WANTED = _subvolume(300, "root")
OLD = _subvolume(256, "fs-snapshots/replaced_20261123132957")


def _says(
    where: str, subvolume: Optional[str] = None, number: Optional[int] = None, decides: bool = True
) -> Statement:
    return Statement(where, "text", subvolume, number, decides)


@pytest.mark.parametrize(
    ("statements", "default_id", "why", "hint"),
    [
        ([_says("/proc/cmdline", OLD.path)], 5, f"'subvol={OLD.path}'", "usual boot entry"),
        ([_says("/proc/cmdline", number=256)], 5, "'subvolid=256'", "usual boot entry"),
        ([_says("/proc/cmdline")], 256, "default subvolume is now ID 256", "set-default 300 /"),
        (
            [_says("/proc/cmdline", "root"), _says("/boot/loader/entries/a.conf", "other")],
            5,
            "/boot/loader/entries/a.conf says 'subvol=other'",
            "Correct /boot/loader/entries/a.conf",
        ),
        (
            [_says("/etc/fstab line 3", "other", decides=False)],
            5,
            "/etc/fstab line 3 says",
            "Correct /etc/fstab,",
        ),
        # What runs names the right root: the names were exchanged again behind its back.
        ([_says("/proc/cmdline", "root")], 5, "the reason cannot be read", "/proc/cmdline"),
        # A default that nothing asks for is no reason.
        ([_says("/proc/cmdline", "root")], 256, "the reason cannot be read", "/proc/cmdline"),
        ([_says("/etc/fstab line 1", decides=False)], 256, "the reason cannot be", "/proc/cmdline"),
    ],
)
def test_the_reason_and_what_to_do(
    statements: list[Statement], default_id: int, why: str, hint: str
) -> None:
    found = explain(OLD, WANTED, default_id, statements)
    assert f"/{OLD.path} (ID 256) is running instead of /root (ID 300)" in found.sentence
    assert why in found.sentence
    assert hint in found.hint


def test_the_command_line_is_the_first_to_blame() -> None:
    entry = _says("/boot/loader/entries/a.conf", "other")
    found = explain(OLD, WANTED, 5, [entry, _says("/proc/cmdline", "third")])
    assert "subvol=third" in found.sentence


def test_a_new_root_that_is_gone() -> None:
    found = explain(_subvolume(5, ""), None, 5, [])
    assert "the top level (ID 5) is running" in found.sentence
    assert "is gone" in found.sentence
    assert "fs-rollback list" in found.hint


def test_a_running_root_without_a_path() -> None:
    assert "no path" in explain(None, WANTED, 5, []).sentence
