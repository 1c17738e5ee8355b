# SPDX-License-Identifier: GPL-2.0-or-later
"""What was probably meant by what was mistyped."""

from __future__ import annotations

import re

import pytest

from fs_rollback import config
from fs_rollback.core.closest import closest, question
from fs_rollback.core.snapshots.names import resolve
from fs_rollback.errors import UsageError
from tests.unit.samples import snapshot


def test_what_is_alike_and_what_is_not() -> None:
    assert closest("ls", ["list", "status", "log"]) == ["list"]
    assert closest("remove", ["restore", "delete"]) == [], "it would mislead"
    assert closest("--version", ["--json", "--version"]) == ["--version"]
    assert closest("a" * 90_000, ["a" * 80]) == []
    assert closest("", ["list"]) == closest("list", []) == []
    assert question([]) == ""
    assert question(["a"]) == "Did you mean a?"
    assert question(["a", "b", "c"]) == "Did you mean a, b or c?"


# --- names of snapshots, and keys

_NAMES = ("yum_20261128202327", "yum_20261128202344", "yum_20261129080000")
_TAKEN = [snapshot(260 + number, name) for number, name in enumerate(_NAMES)]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("yum_20261128202372", ["260 (yum_20261128202327)"]),
        ("20261128202344", ["261 (yum_20261128202344)"]),
        ("YUM_20261129", ["262 (yum_20261129080000)"]),
        ("yum-20261129080000", ["262 (yum_20261129080000)"]),
        ("yum_20261129080000.json", ["262 (yum_20261129080000)"]),
        ("2600", ["260 (yum_20261128202327)"]),
        ("Latest", ["'latest'"]),
        ("263", ["262 (", "261 (", "260 ("]),
        ("999", []),
        ("/etc/fstab", []),
    ],
)
def test_a_snapshot_that_is_not_there(written: str, meant: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        resolve(written, _TAKEN)
    assert caught.value.message == f"no snapshot {written!r}"
    guess, is_asked, rest = caught.value.hint.rpartition("? ")
    assert rest == "'fs-rollback list' shows all of them."
    assert bool(is_asked) == bool(meant)
    assert [one for one in meant if one not in guess] == []
    assert guess.count("(") == len([one for one in meant if "(" in one])


@pytest.mark.parametrize(
    ("written", "meant"), [("252", [253, 251, 250]), ("25O", [259, 258, 253]), ("2" * 5000, [])]
)
def test_of_equals_an_id_means_its_neighbours(written: str, meant: list[int]) -> None:
    taken = [snapshot(n, f"yum_20261128202{n}") for n in (250, 251, 253, 258, 259)]
    with pytest.raises(UsageError) as caught:
        resolve(written, taken)
    assert [int(number) for number in re.findall(r"(\d+) \(", caught.value.hint)] == meant


@pytest.mark.parametrize("key", ["keep_lats", "KEEP_LAST", "keep-last", "keeplast"])
def test_a_key_that_is_mistyped(key: str) -> None:
    with pytest.raises(config.BrokenConfigError) as caught:
        config.parse(f"{key} = 3\n", "x")
    assert caught.value.hint.startswith("Did you mean keep_last? Keys are: on_failure, ")
    assert caught.value.usable.keep_last == config.Config().keep_last


def test_a_key_that_is_like_none() -> None:
    with pytest.raises(config.BrokenConfigError) as caught:
        config.parse("colour = red\n", "x")
    assert caught.value.hint.startswith("Keys are: on_failure, ")
