# SPDX-License-Identifier: GPL-2.0-or-later
"""Which advisories lie between two sets of packages, from the lines of dnf 4 and of dnf 5."""

from __future__ import annotations

import pytest

from fs_rollback.core.packages.advisories import Advisory, between
from fs_rollback.core.packages.changes import Item

DNF4 = """\
i ELSA-2 Low/Sec.       app-2-1.fc44.noarch
  ELSA-3 Critical/Sec.  app-3-1.fc44.noarch
i ELSA-3 Critical/Sec.  app-libs-1:3-1.fc44.x86_64
i ELSA-4 None/Sec.      app-4-1.fc44.noarch
"""
DNF4_CVES = """\
i CVE-2026-2 Low/Sec.       app-2-1.fc44.noarch
  CVE-2026-3 Critical/Sec.  app-3-1.fc44.noarch
i CVE-2026-3 Critical/Sec.  app-libs-1:3-1.fc44.x86_64
i CVE-2026-33 Critical/Sec. app-libs-1:3-1.fc44.x86_64
"""
DNF5 = """\
Name   Type     Severity                    Package              Issued
ELSA-2 security Low             app-2-1.fc44.noarch 2026-11-01 00:00:00
ELSA-3 security Critical        app-3-1.fc44.noarch 2026-11-01 00:00:00
ELSA-3 security Critical app-libs-1:3-1.fc44.x86_64 2026-11-01 00:00:00
ELSA-4 security None            app-4-1.fc44.noarch 2026-11-01 00:00:00
"""
DNF5_CVES = """\
CVE         Type     Severity                    Package              Issued
CVE-2026-2  security Low             app-2-1.fc44.noarch 2026-11-01 00:00:00
CVE-2026-3  security Critical        app-3-1.fc44.noarch 2026-11-01 00:00:00
CVE-2026-3  security Critical app-libs-1:3-1.fc44.x86_64 2026-11-01 00:00:00
CVE-2026-33 security Critical app-libs-1:3-1.fc44.x86_64 2026-11-01 00:00:00
"""
LOW = Advisory("ELSA-2", "Low", ("CVE-2026-2",), ("app-2-1.fc44.noarch",))
CRITICAL = Advisory(
    "ELSA-3",
    "Critical",
    ("CVE-2026-3", "CVE-2026-33"),
    ("app-3-1.fc44.noarch", "app-libs-1:3-1.fc44.x86_64"),
)
UNRATED = Advisory("ELSA-4", "", (), ("app-4-1.fc44.noarch",))


def installed(app: str, libs: str = "1:2-1.fc44") -> list[Item]:
    return [Item("", "app", "noarch", app), Item("", "app-libs", "x86_64", libs)]


@pytest.mark.parametrize("said", [(DNF4, DNF4_CVES), (DNF5, DNF5_CVES)], ids=["dnf4", "dnf5"])
def test_what_lies_between_two_versions_counts_however_many_were_skipped(
    said: tuple[str, str],
) -> None:
    old, new = installed("1-1.fc44"), installed("4-1.fc44", "1:3-1.fc44")
    assert between(old, new, *said) == ([CRITICAL, LOW, UNRATED], [])
    assert between(new, old, *said) == ([], [CRITICAL, LOW, UNRATED])
    assert between(new, new, *said) == ([], [])
    assert between(installed("2-1.fc44"), installed("2-2.fc44"), *said) == ([], [])


def test_a_package_that_is_on_one_side_only_was_not_vulnerable_before() -> None:
    assert between([], installed("4-1.fc44"), DNF5, DNF5_CVES) == ([], [])


def test_of_several_kernels_the_newest_counts() -> None:
    one, two = (Item("", "kernel", "x86_64", evr) for evr in ("6.1-1", "6.2-1"))
    text = "T-1 security Important kernel-6.2-1.x86_64 2026-11-01 00:00:00\n"
    said = Advisory("T-1", "Important", (), ("kernel-6.2-1.x86_64",))
    assert between([one], [one, two], text, "") == ([said], [])
    assert between([one, two], [two], text, "") == ([], [])


@pytest.mark.parametrize("text", ["", "nothing\n", "a-b\n", "x y z\n", "T-1 security\n"])
def test_other_lines_are_passed_over(text: str) -> None:
    assert between(installed("1-1"), installed("2-1"), text, text) == ([], [])
