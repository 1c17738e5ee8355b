# SPDX-License-Identifier: GPL-2.0-or-later
"""The journal on disk: what older programs wrote is still read."""

from __future__ import annotations

import json

from fs_rollback.core.rollback.journal import Pending, State, dump, parse
from fs_rollback.core.rollback.plan import plan_rollback
from tests.unit.machines import machine


def _journal() -> Pending:
    plan = plan_rollback(machine("fedora").situation)
    created = "2026-11-23T13:29:57Z"
    return Pending(State.COMMITTED, created, "admin", "yum_1", 256, "0" * 32, "boot", plan, 4711)


def test_the_generation_is_kept() -> None:
    assert parse(dump(_journal())).generation == 4711


def test_a_journal_from_before_there_was_a_generation() -> None:
    data = json.loads(dump(_journal()))
    del data["generation"]
    assert parse(json.dumps(data)) == _journal()._replace(generation=0)
