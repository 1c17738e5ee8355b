# SPDX-License-Identifier: GPL-2.0-or-later
"""The question of `rollback`, as terminals of all widths show it."""

from __future__ import annotations

from typing import Optional

import pytest

from fs_rollback.cli.rollback import question
from fs_rollback.cli.rollback.facts import Facts
from fs_rollback.core.comparison.upkeep import is_kept_by_restore
from fs_rollback.system.rollback.consequences import Home
from fs_rollback.system.rollback.reverts import Data

_LONG = "/var/lib/a-service-with-quite-a-long-name/and-more"
_DATA = [
    Data("/var/lib/mysql", "mariadb-server", 3, 3 << 20, 0.0, "--keep /var/lib/mysql"),
    Data(_LONG, "", 1, 6, 0.0, f"--keep {_LONG}"),
    Data("/usr/local", "", 1, 4, 0.0, ""),
    Data("/opt/gone", "", 2, 0, None, "--keep /opt/gone"),
]
_FACTS = Facts((), [], [], [], _DATA, Home("/home", stays=True, why="x"), (), (), (), ())


@pytest.mark.parametrize("width", [None, 120, 80, 60, 40])
def test_what_becomes_of_data_is_told_in_columns(width: Optional[int]) -> None:
    lines = list(question._data(_FACTS, width, 12))
    told = ["mariadb-server: 3.0", "6 B,", "4 B,", "2 files deleted"]
    if width is not None:
        assert max(len(line) for line in lines if _LONG not in line) <= width
    starts = {line.index(word) for line in lines for word in told if word in line}
    assert len(starts) == 1, lines
    text = " ".join(" ".join(lines).split())
    assert f"--keep {_LONG} 6 B, written until 1970-01-01 " in text
    assert text.count("; cannot be kept") == 1
    assert not any(line.endswith(("written", "until", "written until")) for line in lines)


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("/etc/hosts.before-restore-20261129220045", True),
        ("/var/www.before-restore-20261129220045/a/b", True),
        ("/etc/hosts.before-restore-2026", False),
        ("/etc/hosts.before-restore-20261129220045.bak", False),
    ],
)
def test_what_restore_has_kept(path: str, wanted: bool) -> None:
    assert is_kept_by_restore(path) == wanted
