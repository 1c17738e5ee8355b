# SPDX-License-Identifier: GPL-2.0-or-later
"""The manual page has the words of `convert check --json`."""

from __future__ import annotations

from fs_rollback.convert.commands.check import wording
from tests.unit.finding_codes import made_codes
from tests.unit.manual import documented_keys, values, wrongly_worded


def test_findings() -> None:
    assert wrongly_worded("convert check", wording(), ()) == []


def test_every_code_is_documented_and_no_other() -> None:
    assert made_codes(of_wing=True) == values(documented_keys("convert check")["points[].code"])
