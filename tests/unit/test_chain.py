# SPDX-License-Identifier: GPL-2.0-or-later
"""How the links of a boot are graded, and what a chain of them is worth."""

from __future__ import annotations

import pytest

from fs_rollback.core.boot import findings, judge
from fs_rollback.core.boot.findings import Grade
from fs_rollback.core.formats import fstab
from fs_rollback.core.formats.fstab import Mounting

GOOD = findings.ok("root.ok", "", "/root")
ODD = findings.warning("plugin.off", "", "it is off", "Switch it on.")
BAD = findings.fatal("init.missing", "", "nothing starts the system: /sbin/init", "Roll back.")


def test_a_chain_is_as_good_as_its_weakest_link() -> None:
    assert [findings.exit_code(links) for links in ((GOOD,), (GOOD, ODD), (BAD, ODD, GOOD))] == [
        0,
        1,
        3,
    ]
    assert findings.worst((ODD, BAD)) is Grade.FATAL


def test_what_was_broken_in_the_same_way_before_is_not_new() -> None:
    same = BAD._replace(text="nothing starts the system: /usr/lib/systemd/systemd")
    other = BAD._replace(code="init.unknown", text="something else: /sbin/init")
    assert judge.newly_broken((BAD,), (same,)) == []
    assert judge.newly_broken((BAD,), (other,)) == [other]
    assert judge.newly_broken((), (BAD._replace(code="saved-kernels.unusable"), ODD, GOOD)) == []


def test_faults_of_one_kind_are_told_apart_by_what_they_are_about() -> None:
    """Not by the line of fstab that they are in; a swap has no mount point."""
    broken = Mounting(False, None, True)
    text = "# line 1\nUUID=a /data ext4 defaults 0 0\nUUID=b /srv ext4 defaults 0 0\n"
    data, srv = (judge.fstab_entry(entry, broken) for entry in fstab.parse(text))
    (moved,) = (judge.fstab_entry(e, broken) for e in fstab.parse("UUID=c /data xfs x 0 0\n"))
    assert moved.text != data.text
    assert judge.newly_broken((data,), (moved, srv)) == [srv]
    assert judge.newly_broken((srv, data), (moved,)) == []
    swaps = fstab.parse("UUID=a none swap sw 0 0\nUUID=b none swap sw 0 0\n")
    assert [judge.fstab_entry(entry, broken).subject for entry in swaps] == ["UUID=a", "UUID=b"]


def test_a_name_is_the_area_of_the_code_in_words() -> None:
    codes = ("one-shot-entry.set", "selinux.ok", "btrfs-progs.old", "packages.unknown")
    names = [findings.ok(code, "dnf5", "").name for code in codes]
    assert names == ["one-shot entry", "SELinux", "btrfs-progs", "dnf5"]


@pytest.mark.parametrize(
    ("head", "x86", "grade"),
    [
        (None, True, Grade.FATAL),
        (b"", False, Grade.FATAL),
        (b"\0" * 0x202 + b"HdrS", True, Grade.OK),
        (b"kernel\n", True, Grade.FATAL),
        (b"kernel\n", False, Grade.OK),
    ],
)
def test_a_kernel_of_x86_has_the_signature_of_its_setup_header(
    head: bytes, x86: bool, grade: Grade
) -> None:
    assert judge.kernel_image("/vmlinuz", head, x86=x86).grade is grade


@pytest.mark.parametrize(
    ("line", "facts", "grade"),
    [
        ("UUID=a /data ext4 defaults 0 0", Mounting(True, True, True), Grade.OK),
        ("UUID=a /data ext4 defaults 0 0", Mounting(False, None, True), Grade.FATAL),
        ("UUID=a /data ext4 nofail 0 0", Mounting(False, None, True), Grade.WARNING),
        ("UUID=a none swap sw 0 0", Mounting(False, None, True), Grade.WARNING),
        ("UUID=a /home btrfs subvol=x 0 0", Mounting(True, False, True), Grade.FATAL),
        ("UUID=a /home btrfs subvol=x 0 0", Mounting(True, None, True), Grade.WARNING),
        ("UUID=a /data ext4 defaults 0 0", Mounting(True, True, False), Grade.WARNING),
    ],
)
def test_only_what_the_boot_waits_for_breaks_it(line: str, facts: Mounting, grade: Grade) -> None:
    assert judge.fstab_entry(fstab.parse(line)[0], facts).grade is grade
