# SPDX-License-Identifier: GPL-2.0-or-later
"""Which backend PackageKit uses, as its daemon decides it."""

from __future__ import annotations

import pytest

from fs_rollback.core.packages.packagekit_conf import backend

BOTH = ["libpk_backend_dnf.so", "libpk_backend_dnf5.so", "libpk_backend_dummy.so"]


@pytest.mark.parametrize(("text", "expected"), [
    ("", "dnf5"),
    ("[Daemon]\n#DefaultBackend=dnf\n", "dnf5"),
    ("[Daemon]\nDefaultBackend=auto\n", "dnf5"),
    ("[Daemon]\nDefaultBackend=dnf\n", "dnf"),
    ("[Daemon]\r\nDefaultBackend = dnf\r\n", "dnf"),
    ("[Daemon]\nDefaultBackend=dnf\nDefaultBackend=dnf5\n", "dnf5"),
    ("[Other]\nDefaultBackend=dnf\n[Daemon]\nShutdownTimeout=300\n", "dnf5"),
    ("[Other]\n[Daemon]\nDefaultBackend=hif\n", "dnf"),
    ("[Daemon]\nDefaultBackend=zypp", "zypp"),
])  # fmt: skip
def test_the_configuration_decides(text: str, expected: str) -> None:
    assert backend(text, BOTH) == expected


@pytest.mark.parametrize(("libraries", "expected"), [
    ([], ""),
    (["libpk_backend_dnf.so"], "dnf"),
    (["libpk_backend_yum.so"], "dnf"),
    (["libpk_backend_test_spawn.so", "libpk_backend_dummy.so"], ""),
    (["libpk_backend_dnf.la", "packagekit-dnf.so"], ""),
    (["libpk_backend_zypp.so", "libpk_backend_dnf5.so"], "zypp"),
])  # fmt: skip
def test_auto_is_the_name_that_sorts_highest(libraries: list[str], expected: str) -> None:
    assert backend("[Daemon]\nDefaultBackend=auto\n", libraries) == expected
