# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import pytest

from fs_rollback.core.packages.changes import Item, between, changes, differences, summary
from fs_rollback.core.snapshots.record import PackageChange

X = "x86_64"


@pytest.mark.parametrize(
    ("comes", "goes", "old", "new"),
    [
        ("upgrade", "upgraded", "1-1", "1-2"),
        ("downgrade", "downgraded", "1-2", "1-1"),
        ("reinstall", "reinstalled", "1-1", "1-1"),
    ],
)
def test_what_comes_is_paired_with_what_goes(comes: str, goes: str, old: str, new: str) -> None:
    items = [Item(comes, "vim", X, new), Item(goes, "vim", X, old)]
    expected = (PackageChange(comes, "vim", X, old, new),)
    assert changes(items) == expected
    assert changes(reversed(items)) == expected


def test_both_architectures_of_a_library_keep_their_own_versions() -> None:
    items = [
        Item("upgraded", "glibc", "i686", "2.39-1"),
        Item("upgraded", "glibc", X, "2.39-2"),
        Item("upgrade", "glibc", X, "2.39-9"),
        Item("upgrade", "glibc", "i686", "2.39-8"),
    ]
    assert changes(items) == (
        PackageChange("upgrade", "glibc", "i686", "2.39-1", "2.39-8"),
        PackageChange("upgrade", "glibc", X, "2.39-2", "2.39-9"),
    )


def test_a_package_that_becomes_noarch_is_one_upgrade() -> None:
    items = [Item("upgrade", "tzdata", "noarch", "2"), Item("upgraded", "tzdata", X, "1")]
    assert changes(items) == (PackageChange("upgrade", "tzdata", "noarch", "1", "2"),)


def test_two_architectures_that_become_one() -> None:
    items = [
        Item("upgrade", "data", "noarch", "2"),
        Item("upgraded", "data", "i686", "1"),
        Item("upgraded", "data", X, "1"),
    ]
    found = changes(items)
    assert summary(found) == "1 upgraded, 1 removed"
    assert {change.arch for change in found if change.action == "remove"} < {"i686", X}


def test_kernels_are_installed_beside_each_other() -> None:
    # dnf installs the new one and removes the oldest: neither is an upgrade of the other.
    items = [
        Item("install", "kernel-core", X, "6.3-1"),
        Item("remove", "kernel-core", X, "6.1-1"),
    ]
    assert set(changes(items)) == {
        PackageChange("install", "kernel-core", X, None, "6.3-1"),
        PackageChange("remove", "kernel-core", X, "6.1-1", None),
    }


def test_an_obsoleting_package_is_new_and_the_other_is_replaced() -> None:
    items = [Item("obsolete", "dnf5", X, "5.2"), Item("obsoleted", "dnf", "noarch", "4.21")]
    found = changes(items)
    assert found == (
        PackageChange("obsolete", "dnf", "noarch", "4.21", None),
        PackageChange("install", "dnf5", X, None, "5.2"),
    )
    assert summary(found) == "1 new, 1 replaced"


def test_an_upgrade_that_obsoletes_a_third_package() -> None:
    items = [
        Item("upgrade", "a", X, "2"),
        Item("upgraded", "a", X, "1"),
        Item("obsoleted", "a-compat", X, "1"),
    ]
    assert changes(items) == (
        PackageChange("upgrade", "a", X, "1", "2"),
        PackageChange("obsolete", "a-compat", X, "1", None),
    )


def test_a_change_of_reason_changes_no_version() -> None:
    found = changes([Item("reason_change", "vim", X, "1-1")])
    assert found == (PackageChange("reason", "vim", X, "1-1", "1-1"),)
    assert summary(found) == "1 reason changed"


def test_nothing_is_lost_where_the_other_half_is_missing() -> None:
    items = [Item("upgraded", "a", X, "1"), Item("upgrade", "b", X, "2")]
    assert changes(items) == (
        PackageChange("remove", "a", X, "1", None),
        PackageChange("upgrade", "b", X, None, "2"),
    )


def test_the_order_is_that_of_the_names() -> None:
    items = [Item("install", name, X, "1") for name in ("b", "c", "a")]
    assert [change.name for change in changes(items)] == ["a", "b", "c"]
    assert changes([]) == ()


def test_summary_counts_in_words() -> None:
    many = [PackageChange("upgrade", f"p{n}", X, "1", "2") for n in range(12)]
    many.append(PackageChange("install", "new", X, None, "1"))
    assert summary(many) == "12 upgraded, 1 new"
    assert summary([]) == ""
    assert summary([PackageChange("unheard_of", "a", X, None, None)]) == "1 unheard_of"


def _installed(*packages: tuple[str, str, str]) -> list[Item]:
    return [Item("", *package) for package in packages]


def test_between_is_from_now_to_then() -> None:
    now = _installed(("vim", X, "2"), ("same", X, "1"), ("new", X, "1"))
    then = _installed(("vim", X, "1"), ("same", X, "1"), ("old", X, "1"))
    assert between(now, then) == (
        PackageChange("remove", "new", X, "1", None),
        PackageChange("restore", "old", X, None, "1"),
        PackageChange("revert", "vim", X, "2", "1"),
    )
    assert between(now, now) == ()
    assert between([], []) == ()


@pytest.mark.parametrize(
    ("old", "new", "action"),
    [("1", "2", "upgrade"), ("2", "1", "downgrade"), ("1", "1", "reinstall")],
)
def test_another_architecture_is_one_change(old: str, new: str, action: str) -> None:
    before, after = _installed(("data", "noarch", old)), _installed(("data", X, new))
    (change,) = differences(before, after)
    assert change == PackageChange(action, "data", X, old, new, "noarch")
    assert change.versions == (f"{old}.noarch", f"{new}.{X}")
    assert between(after, before) == (PackageChange("revert", "data", "noarch", new, old, X),)


def test_packages_of_two_architectures_are_two() -> None:
    old = _installed(("lib", X, "1"), ("lib", "i686", "1"))
    both = _installed(("lib", X, "2"), ("lib", "i686", "2"))
    assert [(c.action, c.arch, c.old_arch) for c in differences(old, both)] == [
        ("upgrade", "i686", None),
        ("upgrade", X, None),
    ]
    # One of them goes, or comes: the other is what is upgraded.
    one = _installed(("lib", X, "2"))
    assert differences(old, one) == (
        PackageChange("remove", "lib", "i686", "1", None),
        PackageChange("upgrade", "lib", X, "1", "2"),
    )
    assert differences(one, both) == (PackageChange("install", "lib", "i686", None, "2"),)
    neither = _installed(("lib", "noarch", "2"))
    assert {(c.action, c.arch) for c in differences(old, neither)} == {
        ("remove", "i686"),
        ("remove", X),
        ("install", "noarch"),
    }
    # The one that stays as it is takes no part.
    other = _installed(("lib", X, "1"), ("lib", "noarch", "2"))
    assert differences(old, other) == (PackageChange("upgrade", "lib", "noarch", "1", "2", "i686"),)


def test_a_kernel_of_another_architecture_is_beside_the_others() -> None:
    old = _installed(("kernel", X, "6.1"), ("kernel", X, "6.2"))
    new = _installed(("kernel", X, "6.2"), ("kernel", "i686", "6.3"))
    assert [c.action for c in differences(old, new)] == ["install", "remove"]


def test_between_never_turns_one_kernel_into_another() -> None:
    # Both sides have two: the newest goes, the oldest comes back, the middle one stays.
    now = _installed(("kernel", X, "6.2"), ("kernel", X, "6.3"))
    then = _installed(("kernel", X, "6.1"), ("kernel", X, "6.2"))
    assert between(now, then) == (
        PackageChange("remove", "kernel", X, "6.3", None),
        PackageChange("restore", "kernel", X, None, "6.1"),
    )
