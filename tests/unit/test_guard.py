# SPDX-License-Identifier: GPL-2.0-or-later
"""The entry of a guarded boot, what is written down of it, and whether services are active."""

from __future__ import annotations

import json

import pytest

from fs_rollback.core.boot.entries import is_guarded
from fs_rollback.core.formats import bls
from fs_rollback.core.guard import entry, state, units
from fs_rollback.core.guard.state import Armed, Failure, Guard, GuardError

ARMED = Armed(
    snapshot="yum_20261130010203",
    uuid="ab",
    file="tree:boot/grub2/grubenv",
    key="saved_entry",
    value="A-fs-snapshot-20261130010203",
    old=None,
    once_file="tree:boot/grub2/grubenv",
    once_key="next_entry",
    once_value="A-fs-snapshot-guarded",
    entry="tree:boot/loader/entries/A-fs-snapshot-guarded.conf",
    title="Linux",
    boot_id="cd",
    is_unproven=True,
    time="2026-11-30T01:02:03Z",
)
FAILURE = Failure(
    "yum_20261130010203", "ab", "dnf upgrade", "why", ("a", "b"), "2026-11-30T01:02:03Z", "cd"
)


@pytest.mark.parametrize(
    "guard",
    [Guard(), Guard(ARMED), Guard(None, FAILURE), Guard(ARMED._replace(old="x"), FAILURE)],
)
def test_what_is_written_is_read(guard: Guard) -> None:
    assert state.parse(state.dump(guard)) == guard


def test_keys_of_a_newer_program_are_passed_over() -> None:
    data = json.loads(state.dump(Guard(ARMED, FAILURE)))
    data["armed"]["more"], data["more"] = 1, 2
    assert state.parse(json.dumps(data)) == Guard(ARMED, FAILURE)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"version": 2}', '{"version": 1, "armed": 1, "failure": null}',
     '{"version": 1, "armed": {}, "failure": null}', "[" * 100_000, '{"version": "1"}',
     state.dump(Guard(ARMED)).replace('"Linux"', "5"),
     state.dump(Guard(None, FAILURE)).replace('"b"', "5")],
)  # fmt: skip
def test_what_is_no_state(text: str) -> None:
    with pytest.raises(GuardError):
        state.parse(text)


def _text_of(options: str, more: str = "") -> dict[str, str]:
    text = f"title Linux\nversion 6.1\nlinux /vmlinuz\noptions {options}\n{more}"
    made = entry.text_of(bls.parse("/boot/loader/entries/x.conf", text))
    return dict(line.split(maxsplit=1) for line in made.splitlines())


ADDED = "panic=10 systemd.crash_reboot=1 rd.shell=0 rd.emergency=reboot fs_rollback.guard=1"


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ("root=x ro", f"root=x ro {ADDED}"),
        ("root=x $tuned_params", f"root=x $tuned_params {ADDED}"),
        ("root=x panic=0", f"root=x panic=0 {ADDED}"),
        ("root=x panic=30", f"root=x panic=30 {ADDED.partition(' ')[2]}"),
        ("root=x panic=-1 rd.shell=1", "root=x panic=-1 rd.shell=1 systemd.crash_reboot=1"
         " rd.emergency=reboot fs_rollback.guard=1"),
    ],
)  # fmt: skip
def test_the_guarded_entry(options: str, wanted: str) -> None:
    """Nothing in it waits for a person; what an administrator has said of that stays."""
    made = _text_of(options, "sort-key a\ngrub_hotkey l\n")
    assert made["options"] == wanted
    assert made["title"] == "Linux (guarded)"
    assert not {"sort-key", "grub_hotkey"} & set(made), "it is behind the usual ones"
    assert is_guarded(made["options"])
    assert not is_guarded(options)


def test_an_entry_without_options() -> None:
    text = "title Linux\nlinux /vmlinuz\n"
    made = entry.text_of(bls.parse("/boot/loader/entries/x.conf", text))
    assert f"options {ADDED}\n" in made


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (("abc-6.1.conf",), "A-fs-snapshot-guarded.conf"),
        (("1bc-6.1.conf",), "0A-fs-snapshot-guarded.conf"),
    ],
)
def test_its_name_is_behind_those_of_the_usual_ones(names: tuple[str, ...], wanted: str) -> None:
    there = [bls.parse(f"/boot/loader/entries/{name}", "linux /vmlinuz\n") for name in names]
    assert entry.file_name(there) == wanted


def _shown(*rows: tuple[str, str, str]) -> str:
    return "\n".join(
        f"NRestarts={restarts}\nLoadState={load}\nActiveState={active}\n"
        for load, active, restarts in rows
    )


WELL = ("loaded", "active", "0")


@pytest.mark.parametrize(
    ("before", "after", "wanted"),
    [
        (WELL, WELL, ""),
        (WELL, ("loaded", "active", "1"), "b.service keeps restarting"),
        (WELL, ("loaded", "failed", "0"), "b.service is failed"),
        (WELL, ("not-found", "inactive", "0"), "there is no unit b.service"),
        (("loaded", "activating", "0"), ("loaded", "activating", "0"), "b.service is activating"),
    ],
)
def test_services(before: tuple[str, str, str], after: tuple[str, str, str], wanted: str) -> None:
    names = ("a.service", "b.service")
    looks = [units.parse(names, _shown(WELL, row)) for row in (before, after)]
    assert units.trouble(*looks) == wanted
    assert units.is_on_the_way(looks[0]) == (before[1] == "activating")


def test_what_is_not_shown_of_each_is_unknown() -> None:
    with pytest.raises(ValueError, match="1 units for 2"):
        units.parse(("a", "b"), _shown(WELL))
    with pytest.raises(ValueError, match="sequence"):
        units.parse(("a",), "no property\n")
