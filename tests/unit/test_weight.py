# SPDX-License-Identifier: GPL-2.0-or-later
"""Which packages a question names first."""

from __future__ import annotations

from fs_rollback.core.packages.weight import heaviest_first
from fs_rollback.core.snapshots.record import PackageChange


def _revert(name: str, old: str, new: str) -> PackageChange:
    return PackageChange("revert", name, "x86_64", old, new)


def _names(*changes: PackageChange) -> list[str]:
    return [change.name for change in heaviest_first(changes)]


def test_what_a_machine_does_not_start_without_comes_first() -> None:
    found = _names(
        _revert("aaa", "2.0-1", "1.0-1"),
        _revert("shim-x64", "15.8-3", "15.8-2"),
        _revert("systemd", "258.2-1", "258.1-1"),
        _revert("systemd-libs", "258.2-1", "258.1-1"),
        _revert("glibc", "2.42-7", "2.42-6"),
        PackageChange("remove", "kernel-modules-core", "x86_64", "6.17.2-1", None),
        PackageChange("remove", "kernel-core", "x86_64", "6.17.2-1", None),
    )
    assert found[:5] == ["kernel-core", "glibc", "systemd", "shim-x64", "aaa"]
    assert set(found[5:]) == {"kernel-modules-core", "systemd-libs"}, "the same once more"


def test_the_larger_a_change_of_version_the_earlier() -> None:
    changes = (
        _revert("release", "1.2.3-2", "1.2.3-1"),
        _revert("third", "1.2.4-1", "1.2.3-1"),
        _revert("second", "1.10-1", "1.9-1"),
        PackageChange("restore", "gone", "noarch", None, "1-1"),
        _revert("first", "10.1-1", "9.7-1"),
        _revert("epoch", "1:1.2-1", "1.2-1"),
        _revert("longer", "1.2.3.1-1", "1.2.3-1"),
    )
    assert _names(*changes) == ["epoch", "first", "gone", "second", "third", "longer", "release"]
