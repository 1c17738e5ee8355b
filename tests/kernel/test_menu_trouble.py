# SPDX-License-Identifier: GPL-2.0-or-later
"""The boot menu when things go wrong: no transaction is stopped, nothing half-written stays."""

from __future__ import annotations

import os
import re
from typing import Any, Callable

import pytest

from fs_rollback.config import Config
from fs_rollback.core.snapshots.record import Outcome, Transaction
from fs_rollback.system.hooks import transaction
from fs_rollback.system.linux import btrfs, durable
from tests.kernel.boots import A, B, BootMachine, MakeBoot, make_boot
from tests.kernel.commands import done, fs_rollback
from tests.kernel.faults import in_child, manifest
from tests.kernel.machine import run
from tests.kernel.test_kernels import fill
from tests.kernel.test_menu import assert_boots, entry_of, trial_of, trials
from tests.unit.manual import differences

__all__ = ["make_boot"]  # the fixture of the tests below


@pytest.fixture
def ext4(make_boot: MakeBoot) -> BootMachine:
    """Give a machine laid out as Fedora Workstation's."""
    return make_boot("ext4")


@pytest.fixture(params=["ext4", "subvolume", "boot/efi"])
def outside(request: pytest.FixtureRequest, make_boot: MakeBoot) -> BootMachine:
    """Give a machine of each kind whose boot files no snapshot holds."""
    return make_boot(request.param)


def replace_a(boot: BootMachine) -> None:
    """What dnf does at its limit of kernels."""
    boot.install_b()
    boot.remove_kernel(A)
    boot.remove_modules(A)


def test_a_kernel_that_the_transaction_removes(outside: BootMachine) -> None:
    name, problems = outside.transact(lambda: replace_a(outside))
    assert problems == ()
    assert_boots(outside, name)
    assert entry_of(outside, name)["version"] == A
    assert outside.boots() == B
    for path in outside.files_of(A):
        mode = (outside.place / path).stat().st_mode & 0o777
        assert mode == (0o755 if "linu" in path else 0o600)


def test_its_files_go_with_the_entry(outside: BootMachine) -> None:
    """Nobody else removes what was put back for it."""
    name, _ = outside.transact(lambda: replace_a(outside))
    done(outside.root, "delete", name)
    assert not any((outside.place / path).exists() for path in outside.files_of(A))
    assert outside.boots() == B


def test_a_kernel_that_cannot_come_back(outside: BootMachine) -> None:
    def change() -> None:
        replace_a(outside)
        run("rm", "-r", str(outside.store() / "boot"))

    name, problems = outside.transact(change)
    assert any(name in problem for problem in problems)
    assert outside.ours() == []
    assert outside.boots() == B


def test_a_full_boot(make_boot: MakeBoot) -> None:
    boot = make_boot("ext4", 4 << 20)
    fill(boot)
    before = manifest(boot.place)
    # The name of an entry of ours takes no room in its directory, the text takes a block.
    name, problems = boot.transact()
    assert any(name in problem for problem in problems)
    assert manifest(boot.place) == before
    assert trials(boot) == set()
    for filler in boot.place.glob("filler*"):
        filler.unlink()
    boot.transact()
    assert_boots(boot, name)


def test_a_read_only_boot(outside: BootMachine) -> None:
    before = manifest(outside.place)
    run("mount", "-o", "remount,bind,ro", str(outside.place))
    name, problems = outside.transact()
    assert any(name in problem for problem in problems) or outside.kind.filesystem == "btrfs"
    run("mount", "-o", "remount,bind,rw", str(outside.place))
    if outside.ours():  # btrfs: reached through the top level
        assert_boots(outside, name)
    else:
        assert manifest(outside.place) == before


@pytest.mark.parametrize(
    "words",
    [
        ("dnf", "upgrade\nlinux /evil\noptions init=/bin/sh"),
        ("dnf", "$(reboot)", "`reboot`", "${saved_entry}"),
        ("dnf", "x" * 10240),
        ("dnf", "\x1b[2J\r\0", "\udcff", "\u2028"),
        (),
    ],
    ids=["newlines", "shell", "10 kB", "control", "none"],
)
def test_a_hostile_command_line(ext4: BootMachine, words: tuple[str, ...]) -> None:
    wanted = Transaction("dnf4", words, "admin", ())
    taken = transaction.before(wanted, str(ext4.root), Config())
    assert isinstance(taken, transaction.Taken)
    assert transaction.after(taken, Outcome.DONE, 1) == []
    assert taken.menu.problems == ()
    assert_boots(ext4, taken.record.name)
    entry = entry_of(ext4, taken.record.name)
    model = ext4.entry(f"abc-{A}")
    assert entry.keys() == model.keys(), "no key was smuggled in"
    assert entry["linux"] == model["linux"]
    assert re.fullmatch(r".{10,55}, \d{4}-\d\d-\d\d \d\d:\d\d", entry["title"]), "80 columns"


def killed_at(boot: BootMachine, monkeypatch: pytest.MonkeyPatch, point: int) -> bool:
    """Do a transaction that is killed at the `point`-th change; returns whether it came to it."""
    count = 0

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal count
            if count == point:
                os.kill(os.getpid(), 9)
            count += 1
            result = real(*arguments, **options)
            if count == point:
                os.kill(os.getpid(), 9)
            count += 1
            return result

        return call

    with monkeypatch.context() as patch:
        for module, names in {
            btrfs: ("create_snapshot", "delete_subvolume"),
            durable: ("replace", "remove_durably", "_write_temporary"),
        }.items():
            for name in names:
                patch.setattr(module, name, counted(getattr(module, name)))
        return in_child(boot.transact) == 9


@pytest.mark.parametrize("kind", ["ext4", "in the root"])
def test_killed_at_each_point(
    make_boot: MakeBoot, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    boot = make_boot(kind)
    boot.transact()
    boot.transact()
    for point in range(200):
        killed = killed_at(boot, monkeypatch, point)
        assert boot.boots() == A
        for ours in boot.ours():
            options = boot.entry(ours)["options"]
            place = options.partition("subvol=")[2].split()[0]
            assert (boot.machine.top / place / "etc/fstab").exists(), "it leads somewhere"
        name, problems = boot.transact()
        assert problems == ()
        assert len(boot.ours()) == len(trials(boot)) == 2
        assert_boots(boot, name)
        assert not [path for path in manifest(boot.place) if path.endswith(".new")]
        if not killed:
            break
    assert point > 10


def test_try_sets_the_next_boot_only(ext4: BootMachine) -> None:
    name, _ = ext4.transact()
    before = ext4.default_name()
    ended = done(ext4.root, "try", name)
    assert "The next boot, and only that" in ended.out
    lines = ext4.setting.read_bytes().decode().splitlines()
    (told,) = [line.partition("=")[2] for line in lines if line.startswith("next_entry=")]
    assert [told] == ext4.ours()
    assert ext4.default_name() == before
    assert len(ext4.setting.read_bytes()) == 1024
    answer = done(ext4.root, "try", name, "--json").json
    assert differences("try", answer) == []
    assert (answer["name"], answer["chosen"], answer["reason"]) == (name, True, None)
    assert f"The next boot, and only that one, uses: {answer['entry']}\n" in ended.out


def test_try_of_one_that_has_no_entry_yet(ext4: BootMachine) -> None:
    name, _ = ext4.transact()
    for _ in range(3):
        ext4.transact()
    assert trial_of(name) not in trials(ext4)
    done(ext4.root, "try", name)
    assert_boots(ext4, name)
    ext4.transact()
    assert_boots(ext4, name)
    assert len(trials(ext4)) == 3, "what is set for the next boot stays"


@pytest.mark.parametrize("kind", ["subvolume", "in the root", "top level"])
def test_try_where_grub_cannot_write(make_boot: MakeBoot, kind: str) -> None:
    boot = make_boot(kind)
    name, _ = boot.transact()
    before = boot.setting.read_bytes()
    ended = fs_rollback(boot.root, "try", name)
    assert ended.code == 1
    assert "GRUB cannot write to btrfs" in ended.err
    assert entry_of(boot, name)["title"] in ended.out
    answer = fs_rollback(boot.root, "try", name, "--json").json
    assert (answer["chosen"], answer["entry"]) == (False, entry_of(boot, name)["title"])
    assert "GRUB cannot write to btrfs" in answer["reason"]
    assert boot.setting.read_bytes() == before


def test_try_where_the_loader_is_not_the_one_that_runs(make_boot: MakeBoot) -> None:
    boot = make_boot("boot/efi")
    name, _ = boot.transact()
    before = manifest(boot.place)
    ended = fs_rollback(boot.root, "try", name)
    assert ended.code == 1
    assert "systemd-boot" in ended.err
    assert manifest(boot.place) == before


def test_try_says_why_this_one_has_no_entry(ext4: BootMachine) -> None:
    """Neither has a record, so no kernel was saved for it; the reason is not the other one's."""
    ext4.transact()
    names = ("yum_20200101000000", "yum_20200102000000")
    for name in names:
        place = str(ext4.store() / name)
        run("btrfs", "subvolume", "snapshot", "-r", str(ext4.root), place)
    ext4.install_b()
    ext4.remove_kernel(A)
    for name in names:
        ended = fs_rollback(ext4.root, "try", name)
        assert ended.code == 3
        said = ext4.machine.label(name)
        why = f"{said} has no entry in the boot menu: no kernel in /boot fits it ({A})"
        assert f"{said} cannot be tried: {why}\n" in ended.err


def test_try_of_what_is_no_snapshot(ext4: BootMachine) -> None:
    name, _ = ext4.transact(ext4.install_b)
    done(ext4.root, "rollback", name, "--yes")
    ext4.reboot()
    replaced = next(n for n in os.listdir(ext4.store()) if n.startswith("replaced_"))
    ended = fs_rollback(ext4.root, "try", replaced.removesuffix(".json"))
    assert ended.code == 3


@pytest.mark.parametrize("name", ['yum_a"b', "yum_a b", "yum_a\nb", "yum_$a", "yum_", "yum_é"])
def test_a_snapshot_that_somebody_named(outside: BootMachine, name: str) -> None:
    """Whatever cannot be written into an entry stops neither the transaction nor the others."""
    outside.transact()
    place = str(outside.store() / name)
    run("btrfs", "subvolume", "snapshot", "-r", str(outside.root), place)
    newest, _ = outside.transact()
    assert_boots(outside, newest)
    assert outside.boots() == A
    assert len(trials(outside)) == len(outside.ours()), "no copy without its entry"


def _next_entry(box: BootMachine) -> str:
    lines = box.setting.read_bytes().decode().splitlines()
    return next((line.partition("=")[2] for line in lines if line.startswith("next_entry=")), "")


def test_a_rollback_is_what_the_next_boot_uses_whatever_was_to_be_tried(ext4: BootMachine) -> None:
    first, _ = ext4.transact()
    second, _ = ext4.transact()
    done(ext4.root, "try", first)
    tried = _next_entry(ext4)
    assert tried
    done(ext4.root, "rollback", second, "--yes")
    assert _next_entry(ext4) == ""
    done(ext4.root, "undo", "--yes")
    assert _next_entry(ext4) == tried


def test_what_is_deleted_is_no_longer_to_be_tried(ext4: BootMachine) -> None:
    name, _ = ext4.transact()
    done(ext4.root, "try", name)
    done(ext4.root, "delete", name)
    # GRUB would start the first entry of the menu, not the default one.
    assert _next_entry(ext4) == ""
    assert ext4.ours() == []


def test_a_snapshots_entry_that_was_made_the_default_is_named_and_kept(ext4: BootMachine) -> None:
    first, _ = ext4.transact()
    ours = ext4.ours()[0]
    ext4.write_grubenv({"saved_entry": ours})
    for _ in range(3):
        ext4.transact()
    assert ours in ext4.ours(), "without it GRUB would start the first entry of the menu"
    said = fs_rollback(ext4.root, "check")
    assert "the default entry boots a copy of a snapshot" in said.out
    assert "rootflags=subvol=fs-snapshots" not in said.out, "no kernel update should boot that"
    assert fs_rollback(ext4.root, "delete", first).code == 3
