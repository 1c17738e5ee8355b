# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import os
import random
import re
import subprocess
from collections.abc import Sequence
from typing import Optional

import pytest

from fs_rollback.core.formats import bls
from fs_rollback.core.formats.bls import BootEntry
from fs_rollback.core.loader.choice import Choice, Loader
from fs_rollback.core.loader.loaders import default_entry, once, ordered, rules, written
from fs_rollback.core.loader.menu_names import (
    SNAPSHOT_ENTRY_PREFIX,
    is_snapshot_entry,
    snapshot_entry_prefix,
    snapshot_entry_values,
)
from fs_rollback.core.packages.versions import evr_compare, grub_compare, version_compare
from tests.need import need

MACHINE = "0fb2a3e5c1d94e8f9a7b6c5d4e3f2a1b"
OLDER = f"{MACHINE}-6.11.4-301.fc41.x86_64"
NEWER = f"{MACHINE}-6.11.10-300.fc41.x86_64"
RESCUE = f"{MACHINE}-0-rescue"
GRUB, SYSTEMD = Loader.GRUB, Loader.SYSTEMD_BOOT
KNOWN = tuple(loader for loader in Loader if loader is not Loader.UNKNOWN)
SNAPSHOTS = ["yum_20251231235959", "yum_20261123132957", "manual_20261124090000"]

# What kernels are called on Fedora, EL, Oracle's UEK, Debian, Arch, and by who builds their own.
VERSIONS = [
    "6.11.4-301.fc41.x86_64",
    "6.11.10-300.fc41.x86_64",
    "5.14.0-570.el9.aarch64",
    "5.15.0-312.187.5.el9uek.x86_64",
    "6.1.0-28-cloud-amd64",
    "6.12.1-arch1-1",
    "6.13.0-0.rc4.20241225git9b2ffa6148b1.38.fc42.x86_64",
    "0-rescue",
    "6.12.0",
    "6.13.0-rc1+",
    "6.9_own",
]
TOKENS = ["fedora", "arch", "ol", "a", "abc", "debian-testing", "linux", "zen"]


def entry(name: str, *, version: str = "", sort_key: str = "", machine_id: str = "") -> BootEntry:
    lines = [f"title {name}", "linux /vmlinuz", "options root=UUID=1"]
    pairs = (("version", version), ("sort-key", sort_key), ("machine-id", machine_id))
    lines += [f"{key} {value}" for key, value in pairs if value]
    return bls.parse(f"/boot/loader/entries/{name}.conf", "\n".join(lines) + "\n")


def names(entries: Sequence[BootEntry]) -> list[str]:
    return [each.name for each in entries]


def chosen(choice: Choice, *entry_names: str) -> Optional[str]:
    found = default_entry(choice, [entry(name) for name in entry_names])
    return found.name if found else None


def seeded(number: int) -> random.Random:
    """Chance that is the same in every run."""
    return random.Random(number)


def random_words(chance: random.Random, count: int) -> list[str]:
    """Give strings in which every rule of the comparisons has its turn."""
    parts = ["0", "00", "1", "10", "010", "9", "a", "A", "b", "ab", "fc41", "-", ".", "_", "~"]
    return ["".join(chance.choices(parts, k=chance.randrange(1, 7))) for _ in range(count)]


# --- order ---


def test_each_loader_has_rules_and_keys_of_its_own() -> None:
    keys: list[str] = []
    for loader in KNOWN:
        known = rules(loader)
        assert known is not None
        keys += known.written.keys
        assert all(written("file", key) is known.written for key in known.written.keys)
    assert len(keys) == len(set(keys))
    assert rules(Loader.UNKNOWN) is None


def test_fedora_menu() -> None:
    entries = [entry(name) for name in (RESCUE, OLDER, NEWER)]
    for loader in (GRUB, SYSTEMD):
        assert names(ordered(loader, entries)) == [NEWER, OLDER, RESCUE]
    assert names(ordered(Loader.UNKNOWN, entries)) == [RESCUE, NEWER, OLDER]


def test_systemd_boots_own_example() -> None:
    # The entries of bootspec_sort in systemd's src/test/test-bootspec.c.
    one, two = "dd235d00696545768f6f693bfd23b15f", "309de666fd5044268a9a26541ac93176"
    three, four = "b75451ad92f94feeab50b0b442768dbd", "81c6e3147cf544c19006af023e22b292"
    entries = [
        entry("a-10", version="10", machine_id=one),
        entry("a-5", version="5", machine_id=one),
        entry("b", version="3", machine_id=three),
        entry("c", version="5", sort_key="xxxx", machine_id=two),
        entry("cx", version="10", sort_key="xxxx", machine_id=two),
        entry("d", version="100", sort_key="kkkk", machine_id=four),
    ]
    assert names(ordered(SYSTEMD, entries)) == ["d", "cx", "c", "b", "a-10", "a-5"]


def test_systemd_boot_groups_systems_by_their_machine_id() -> None:
    entries = [
        entry("1", version="7", sort_key="fedora", machine_id="b" * 32),
        entry("2", version="6", sort_key="fedora", machine_id="a" * 32),
    ]
    assert names(ordered(SYSTEMD, entries)) == ["2", "1"]


def test_systemd_boot_puts_what_failed_last() -> None:
    entries = [entry("z+0-3", sort_key="a"), entry("a+2-1"), entry("b+3"), entry("A-x")]
    assert names(ordered(SYSTEMD, entries)) == ["b+3", "a+2-1", "A-x", "z+0-3"]


def test_versions_compare_as_systemd_says() -> None:
    # The list in the comment of systemd's strverscmp_improved(), and UAPI.10.
    rising = ["122.1", "123~rc1-1", "123", "123-a", "123-a.1", "123-1", "123-1.1", "123^post1"]
    rising += ["123.a-1", "123.1-1", "123a-1", "124-1"]
    for place, older in enumerate(rising):
        assert version_compare(older, older) == 0
        for newer in rising[place + 1 :]:
            assert (version_compare(older, newer), version_compare(newer, older)) == (-1, 1)
    assert version_compare("123_a", "123a") == 0
    assert version_compare("B", "a") == -1
    assert version_compare("", "~") == 1


def test_versions_compare_as_systemd_does() -> None:
    need("systemd-analyze")
    words = random_words(seeded(1), 240)
    for one, two in zip(words[::2], words[1::2]):
        found = subprocess.run(
            ["systemd-analyze", "compare-versions", "--", one, two],
            stdout=subprocess.PIPE,
            check=False,
        )
        assert {0: 0, 11: 1, 12: -1}[found.returncode] == version_compare(one, two), (one, two)


def _as_rpm_compares(pairs: list[tuple[str, str]]) -> list[int]:
    need("rpm")
    calls = "".join(f'print(rpm.vercmp("{one}","{two}").." ")' for one, two in pairs)
    found = subprocess.run(
        ["rpm", "--eval", "%{lua:" + calls + "}"], text=True, stdout=subprocess.PIPE, check=True
    )
    return [int(number) for number in found.stdout.split()]


def test_grub_compares_as_rpm_does() -> None:
    # "+" is Fedora's blscfg's own (rpm has "^"); "-" would be release's begin for rpm.vercmp().
    words = [word.replace("-", "_.") for word in random_words(seeded(2), 4000)]
    pairs = list(zip(words[::2], words[1::2]))
    assert [grub_compare(one, two) for one, two in pairs] == _as_rpm_compares(pairs)


def test_packages_compare_as_rpm_does() -> None:
    choice = seeded(3).choice
    words = [word.replace("-", "_^") or "0" for word in random_words(seeded(4), 4000)]
    evrs = [
        choice(("", "0:", "1:")) + word + choice(("-1", "-2", "-1~x", "-1.fc44")) for word in words
    ]
    pairs = [*zip(evrs[::2], evrs[1::2]), *zip(evrs, evrs[:9]), ("1-1", "1-1.2"), ("1^-1", "1-1")]
    told = [evr_compare(one, two) for one, two in pairs]
    assert told == _as_rpm_compares(pairs)
    assert set(told) == {-1, 0, 1}


@pytest.mark.parametrize(
    ("older", "newer"),
    [("6.13", "6.13+"), ("6.13+", "6.13.1"), ("6.13+1", "6.13+2"), ("+a", "a"), ("+", "+1")],
)
def test_grub_puts_a_plus_between_the_end_and_all_else(older: str, newer: str) -> None:
    assert (grub_compare(older, newer), grub_compare(newer, older)) == (-1, 1)


# --- what was chosen ---


def test_grub_takes_an_id_a_title_or_an_index() -> None:
    for told, found in [
        (OLDER, OLDER),
        ("0", NEWER),
        ("2", RESCUE),
        ("", NEWER),
        (f"{MACHINE}-6.10.0-1.fc41.x86_64", NEWER),  # a kernel that was removed
    ]:
        assert chosen(Choice(GRUB, saved_entry=told), OLDER, RESCUE, NEWER) == found
    titled = bls.parse("x.conf", "title Fedora Linux (6.11.4) 41\nlinux /x\n")
    told_title = Choice(GRUB, saved_entry="Fedora Linux (6.11.4) 41")
    assert default_entry(told_title, [entry("y"), titled]) == titled


def test_grub_prefers_a_name_to_an_index() -> None:
    assert chosen(Choice(GRUB, saved_entry="1"), "3", "2", "1") == "1"


@pytest.mark.parametrize(
    "told", ["7", "Windows Boot Manager (on /dev/sda1)", "1>2", "osprober-efi-5B2C-1D0A"]
)
def test_what_may_be_another_entry_of_grubs_menu_is_not_known(told: str) -> None:
    assert chosen(Choice(GRUB, saved_entry=told), OLDER, NEWER) is None


@pytest.mark.parametrize(
    ("choice", "found"),
    [
        (Choice(SYSTEMD), NEWER),
        (Choice(SYSTEMD, pattern=f"{OLDER}.conf"), OLDER),
        (Choice(SYSTEMD, pattern=OLDER), NEWER),  # without the suffix it fits nothing
        (Choice(SYSTEMD, pattern=f"{MACHINE.upper()}-6.11.4-*"), OLDER),
        (Choice(SYSTEMD, pattern=f"{MACHINE}-*"), NEWER),
        (Choice(SYSTEMD, pattern="*rescue*", efi_default=f"{OLDER}.conf"), OLDER),
        (Choice(SYSTEMD, pattern="*rescue*", efi_default="gone.conf"), RESCUE),
        (Choice(SYSTEMD, pattern="gone.conf"), NEWER),
        (Choice(SYSTEMD, pattern="@saved"), None),
        (Choice(SYSTEMD, pattern="@saved", efi_default=f"{OLDER}.conf"), OLDER),
        (Choice(SYSTEMD, pattern=f"{OLDER}.conf", efi_default="@saved"), None),
        (Choice(SYSTEMD, efi_default="auto-windows"), None),
        (Choice(SYSTEMD, pattern="fedora-*.efi"), None),
        (Choice(SYSTEMD, efi_default=f"{OLDER}.conf", efi_preferred="*rescue*"), RESCUE),
        (Choice(SYSTEMD, pattern=f"{OLDER}.conf", preferred="*rescue*"), RESCUE),
        (Choice(Loader.UNKNOWN, saved_entry=OLDER, pattern="*"), None),
    ],
)
def test_systemd_boot_takes_the_variable_then_the_pattern_then_the_first(
    choice: Choice, found: Optional[str]
) -> None:
    assert chosen(choice, RESCUE, OLDER, NEWER) == found


def test_systemd_boot_knows_an_entry_while_its_boots_are_counted() -> None:
    assert chosen(Choice(SYSTEMD, efi_default="a.conf"), "a+2-1", "b") == "a+2-1"
    # What is preferred is so only until it has failed, a default is one all the same.
    assert chosen(Choice(SYSTEMD, efi_preferred="a.conf"), "a+0-3", "b") == "b"
    assert chosen(Choice(SYSTEMD, efi_default="a.conf"), "a+0-3", "b") == "a+0-3"


@pytest.mark.parametrize("loader", list(Loader))
def test_without_entries_nothing_is_known(loader: Loader) -> None:
    choice = Choice(loader, saved_entry="0", next_entry="0", efi_oneshot="*")
    assert default_entry(choice, []) is None
    assert once(choice, []) is None


def test_once() -> None:
    entries = [entry(name) for name in (RESCUE, OLDER, NEWER)]
    for choice, name in [
        (Choice(GRUB), None),
        (Choice(GRUB, next_entry=OLDER), OLDER),
        (Choice(GRUB, next_entry="1"), OLDER),
        (Choice(GRUB, next_entry="gone", saved_entry=OLDER), None),
        (Choice(GRUB, efi_oneshot=f"{OLDER}.conf"), None),
        (Choice(SYSTEMD), None),
        (Choice(SYSTEMD, efi_oneshot=f"{OLDER}.conf"), OLDER),
        (Choice(SYSTEMD, efi_oneshot="gone.conf"), None),
        (Choice(SYSTEMD, next_entry=OLDER), None),
        (Choice(Loader.UNKNOWN, next_entry=OLDER), None),
    ]:
        found = once(choice, entries)
        assert (found.name if found else None) == name
        assert default_entry(choice._replace(next_entry="", efi_oneshot=""), entries) == (
            default_entry(choice, entries)
        )


# --- the entries of snapshots ---


def machine_ids(chance: random.Random, count: int) -> list[str]:
    """Give machine-ids (machine-id(5)), of which many begin with zeros or letters."""
    starts = ["", "0", "00", "000a", "0a", "0e1", "a", "aa", "a0", "f", "9"]
    return [(chance.choice(starts) + f"{chance.getrandbits(128):032x}")[:32] for _ in range(count)]


def system(token: str, *, sort_key: str = "") -> list[BootEntry]:
    """Give the entries of an installed system, their version as kernel-install writes it."""
    return [
        entry(f"{token}-{version}", version=version, sort_key=sort_key, machine_id=token)
        for version in VERSIONS
    ]


def snapshots_of(normal: Sequence[BootEntry]) -> list[BootEntry]:
    """Make the entries of snapshots as the program does, each from another kernel's."""
    prefix = snapshot_entry_prefix(normal)
    made = []
    for model, name in zip(normal, SNAPSHOTS):
        text = bls.rewrite(model.text, snapshot_entry_values(f"before dnf upgrade, {name}"))
        made.append(bls.parse(f"/boot/loader/entries/{prefix}{name}.conf", text))
    return made


def menus(normal: Sequence[BootEntry], made: Sequence[BootEntry]) -> list[list[str]]:
    """Give the menus of GRUB (Fedora's), GRUB 2.14 and systemd-boot.

    GRUB 2.14 sorts file names with filevercmp(), which is what sort -V calls.
    """
    entries = [*made, *normal]
    lines = "".join(f"{each.name}.conf\n" for each in entries)
    environment = {**os.environ, "LC_ALL": "C"}
    found = subprocess.run(
        ["sort", "-V", "-r"],
        input=lines,
        text=True,
        stdout=subprocess.PIPE,
        env=environment,
        check=True,
    )
    upstream = [name[: -len(".conf")] for name in found.stdout.split()]
    return [upstream, *(names(ordered(loader, entries)) for loader in KNOWN)]


@pytest.mark.parametrize("sort_key", ["", "fedora", "0", "zz"])
def test_snapshots_are_the_last_of_every_menu_and_the_newest_is_first_of_them(
    sort_key: str,
) -> None:
    chance = seeded(3)
    for token in [*machine_ids(chance, 30), *TOKENS]:
        normal = system(token, sort_key=sort_key)
        made = snapshots_of(normal)
        for menu in menus(normal, made):
            assert set(menu[-len(made) :]) == set(names(made)), menu
            in_menu = [name for name in menu if name in names(made) and "yum" in name]
            assert in_menu == sorted(in_menu, reverse=True)


def test_a_snapshot_is_never_first_beside_a_single_entry() -> None:
    chance = seeded(4)
    for token in [*machine_ids(chance, 12), *TOKENS]:
        for normal in ([each] for each in system(token)):
            for menu in menus(normal, snapshots_of(normal)):
                assert menu[0] == normal[0].name


def test_a_snapshot_is_never_first_where_two_systems_share_the_menu() -> None:
    chance = seeded(5)
    for _ in range(60):
        tokens = chance.sample([*machine_ids(chance, 8), *TOKENS], 2)
        keys = chance.choice([("", ""), ("fedora", ""), ("", "debian"), ("a", "b")])
        normal = [e for token, key in zip(tokens, keys) for e in system(token, sort_key=key)]
        made = snapshots_of(normal)
        for menu in menus(normal, made):
            assert menu[0] not in names(made), menu


def test_a_snapshot_is_no_default_that_a_pattern_or_a_lost_kernel_leaves() -> None:
    for token in [*machine_ids(seeded(6), 40), *TOKENS]:
        normal = system(token)
        entries = [*snapshots_of(normal), *normal]
        for choice in (
            Choice(GRUB, saved_entry=f"{token}-6.0.0-gone"),
            Choice(GRUB, saved_entry=""),
            Choice(GRUB, saved_entry="0"),
            Choice(SYSTEMD, pattern=f"{token}-*"),
            Choice(SYSTEMD, pattern="*"),
        ):
            found = default_entry(choice, entries)
            assert found is not None
            assert not is_snapshot_entry(found)


def test_an_index_means_the_same_entry_with_snapshots_in_the_menu() -> None:
    normal = system(MACHINE)
    for index in range(len(normal)):
        choice = Choice(GRUB, saved_entry=str(index))
        assert default_entry(choice, normal) == default_entry(
            choice, [*snapshots_of(normal), *normal]
        )


def test_bootctl_takes_the_names() -> None:
    # efi_loader_entry_name_valid() in systemd's src/shared/efi-api: letters, digits, "+-_.".
    for normal in (system(MACHINE), system("fedora")):
        for made in snapshots_of(normal):
            assert re.fullmatch(r"[A-Za-z0-9+_.-]+", made.name)
            assert made.id == made.name
            assert is_snapshot_entry(made)
    assert SNAPSHOT_ENTRY_PREFIX in snapshot_entry_prefix(system(MACHINE))
    assert not any(is_snapshot_entry(each) for each in system(MACHINE))


def test_the_prefix_stays_while_there_are_snapshots() -> None:
    normal = system("fedora")
    assert snapshot_entry_prefix([*snapshots_of(normal), *normal]) == snapshot_entry_prefix(normal)
