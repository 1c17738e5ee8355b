# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import pytest

from fs_rollback.core.formats.loader_conf import DEFAULT, PREFERRED, pattern, with_pattern

TYPICAL = "#console-mode keep\ntimeout 3\ndefault 0fb2a3e5*\neditor no\n"


@pytest.mark.parametrize(
    ("text", "found"),
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
def test_pattern(text: str, found: str) -> None:
    assert pattern(text, DEFAULT) == found
    other = text.replace("default", "preferred")
    assert pattern(other, PREFERRED) == found
    assert pattern(other, DEFAULT) == ""


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
def test_with_pattern(text: str, entry_id: str, changed: str) -> None:
    assert with_pattern(text, DEFAULT, entry_id) == changed
    other, expected = (t.replace("default", "preferred") for t in (text, changed))
    assert with_pattern(other, PREFERRED, entry_id) == expected


@pytest.mark.parametrize("told", ["0fb2a3e5-*", "@saved", "auto-windows", "linux.efi", "x.CONF"])
def test_what_is_whole_is_written_as_it_is(told: str) -> None:
    assert pattern(with_pattern(TYPICAL, DEFAULT, told), DEFAULT) == told


@pytest.mark.parametrize("told", ["", " ", "a\ntimeout 0"])
def test_what_is_no_entry(told: str) -> None:
    with pytest.raises(ValueError, match="cannot be the default entry"):
        with_pattern(TYPICAL, DEFAULT, told)


def test_there_and_back() -> None:
    changed = with_pattern(TYPICAL, DEFAULT, "x")
    assert with_pattern(changed, DEFAULT, pattern(TYPICAL, DEFAULT)) == TYPICAL
    assert with_pattern(with_pattern("timeout 3\n", DEFAULT, "x"), DEFAULT, None) == "timeout 3\n"
    both = "default a\npreferred b\n"
    assert with_pattern(both, PREFERRED, "c") == "default a\npreferred c\n"
