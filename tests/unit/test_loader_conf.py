# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import pytest

from fs_rollback.core.loader_conf import default_pattern, with_default

TYPICAL = "#console-mode keep\ntimeout 3\ndefault 0fb2a3e5*\neditor no\n"


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        (TYPICAL, "0fb2a3e5*"),
        ("", ""),
        ("timeout 3\n", ""),
        ("#default a.conf\n", ""),
        ("default\n", ""),
        ("defaults a.conf\n", ""),
        ("default a.conf", "a.conf"),
        ("\tdefault \t a.conf \r\n", "a.conf"),
        ("default a.conf\ndefault b.conf\n", "b.conf"),
        ('default "a.conf"\n', "a.conf"),
        ("default @saved\n", "@saved"),
        ("default a.conf\ndefault @other\n", "a.conf"),
    ],
)
def test_default_pattern(text: str, pattern: str) -> None:
    assert default_pattern(text) == pattern


@pytest.mark.parametrize(
    ("text", "entry_id", "changed"),
    [
        (TYPICAL, "x.conf", TYPICAL.replace("0fb2a3e5*", "x.conf")),
        (TYPICAL, None, "#console-mode keep\ntimeout 3\neditor no\n"),
        ("", "x.conf", "default x.conf\n"),
        ("", None, ""),
        ("timeout 3", "x.conf", "timeout 3\ndefault x.conf\n"),
        ("timeout 3\n", "x.conf", "timeout 3\ndefault x.conf\n"),
        ("timeout 3\n\n", "x.conf", "timeout 3\n\ndefault x.conf\n"),
        ("timeout 3", None, "timeout 3"),
        ("default  a\r\ntimeout 3\r\n", "x.conf", "default  x.conf\r\ntimeout 3\r\n"),
        ("default a\n# b\ndefault c\n", "x.conf", "default x.conf\n# b\n"),
        ("default a", "x.conf", "default x.conf"),
        ("#default a\n", "x.conf", "#default a\ndefault x.conf\n"),
    ],
)
def test_with_default(text: str, entry_id: str, changed: str) -> None:
    assert with_default(text, entry_id) == changed


@pytest.mark.parametrize("told", ["0fb2a3e5-*", "@saved", "auto-windows", "linux.efi", "x.CONF"])
def test_what_is_whole_is_written_as_it_is(told: str) -> None:
    assert default_pattern(with_default(TYPICAL, told)) == told


@pytest.mark.parametrize("told", ["", " ", "a b", "a\ntimeout 0"])
def test_what_is_no_entry(told: str) -> None:
    with pytest.raises(ValueError, match="cannot be the default entry"):
        with_default(TYPICAL, told)


def test_there_and_back() -> None:
    assert with_default(with_default(TYPICAL, "x"), default_pattern(TYPICAL)) == TYPICAL
    assert with_default(with_default("timeout 3\n", "x"), None) == "timeout 3\n"
