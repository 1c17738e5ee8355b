# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import pytest

from fs_rollback.core.packages.important import CONFIGURED, GROUPS, group, important
from fs_rollback.core.snapshots.record import PackageChange


@pytest.mark.parametrize(
    ("expected", "names"),
    [
        (
            "kernel",
            "kernel kernel-core kernel-modules kernel-modules-core kernel-modules-extra"
            " kernel-uek kernel-uek-core kernel-uek-modules kernel-uek64k kernel-rt kernel-rt-core"
            " kernel-debug-core kernel-64k-core kernel-64k-debug-modules kernel-uki-virt kernel-lt"
            " kernel-ml-core kernel-longterm-core kernel-automotive-core",
        ),
        ("glibc", "glibc glibc-common"),
        ("systemd", "systemd systemd-libs systemd-udev systemd-pam systemd-shared"),
        (
            "boot loader",
            "grub2 grub2-common grub2-efi-x64 grub2-pc grub2-tools-minimal systemd-boot"
            " systemd-boot-unsigned shim shim-x64 shim-ia32 shim-unsigned-aarch64",
        ),
        (
            "",
            "kernel-headers kernel-devel kernel-uek-devel kernel-rt-devel-matched kernel-tools"
            " kernel-tools-libs kernel-uek-tools kernel-doc kernel-srpm-macros kernel-rpm-macros"
            " kernel-abi-stablelists kernel-cross-headers kernel-uek-container kernelshark"
            " kernel-debuginfo-common-x86_64 perf glibc-devel glibc-langpack-de python3-systemd"
            " systemd-rpm-macros shimmer grubby libgrub2 dracut bash",
        ),
    ],
)
def test_groups(expected: str, names: str) -> None:
    assert {name: group(name) for name in names.split()} == dict.fromkeys(names.split(), expected)


def test_configured_ones_are_besides() -> None:
    patterns = ("postgresql*", "kernel-tools", "lib[ab]", "glibc")
    for name in ("postgresql", "postgresql16-server", "kernel-tools", "liba"):
        assert group(name, patterns) == CONFIGURED
        assert group(name) == ""
    assert group("glibc", patterns) == "glibc"
    assert group("libc", patterns) == ""
    assert group("PostgreSQL", patterns) == "", "names have a case"


def _change(name: str, action: str = "upgrade", arch: str = "x86_64") -> PackageChange:
    return PackageChange(action, name, arch, "1-1", "2-1")


def test_what_matters_comes_first() -> None:
    names = ["bash", "grub2-pc", "nginx", "systemd", "glibc", "kernel-core", "kernel", "zsh"]
    found = important(map(_change, names), ("nginx",))
    order = ["kernel", "kernel-core", "glibc", "systemd", "grub2-pc", "nginx"]
    assert [change.name for change in found] == order
    assert [group(name) for name in order[1:-1]] == list(GROUPS)
    assert important(map(_change, ["bash", "zsh"])) == ()
    assert important(()) == ()


def test_every_change_counts_but_that_of_a_reason() -> None:
    for action in ("install", "upgrade", "downgrade", "reinstall", "remove", "obsolete"):
        assert important([_change("kernel-core", action)]) != ()
    assert important([_change("kernel-core", "reason")]) == ()
