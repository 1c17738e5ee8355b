# SPDX-License-Identifier: GPL-2.0-or-later
"""What the boot loader is told of a guarded boot, and how that is taken back."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from fs_rollback.cli.guard import by_hand
from fs_rollback.config import Config
from fs_rollback.core.guard.state import Failure, Guard
from fs_rollback.core.snapshots.record import Transaction
from fs_rollback.errors import RefusedError
from fs_rollback.system.guard import arm, around, outcome
from fs_rollback.system.hooks import transaction
from fs_rollback.system.machine import kernels
from fs_rollback.system.machine.host import Host
from fs_rollback.system.store import guards
from tests.kernel import test_menu_cut_off as power_cuts
from tests.kernel.boots import TOKEN, A, B, BootMachine, MakeBoot, make_boot
from tests.kernel.commands import done, fs_rollback
from tests.unit.manual import differences

__all__ = ["make_boot"]  # a fixture
GUARDED = Config(guard="updates")
USUAL = f"{TOKEN}-{A}"


@pytest.fixture
def ext4(make_boot: MakeBoot) -> BootMachine:
    """Give a machine laid out as Fedora Workstation's."""
    return make_boot("ext4")


def told(boot: BootMachine) -> dict[str, str]:
    """Return what GRUB's environment block says."""
    data = boot.setting.read_bytes()
    assert len(data) == 1024
    return dict(line.split("=", 1) for line in data.decode().splitlines() if "=" in line)


def way_back(name: str) -> str:
    return f"A-fs-snapshot-{name.removeprefix('yum_')}"


def next_boots(boot: BootMachine) -> list[str]:
    """Return the entries of the next boot and of the one after it, as GRUB takes them."""
    values = told(boot)
    return [values.get("next_entry") or values["saved_entry"], values["saved_entry"]]


def expect_guarded(boot: BootMachine, name: str) -> None:
    assert next_boots(boot) == ["A-fs-snapshot-guarded", way_back(name)]
    assert boot.entry(way_back(name))["options"].count("subvol=fs-snapshots/try_") == 1


def expect_nothing_left(boot: BootMachine, usual: str = USUAL) -> None:
    assert next_boots(boot) == [usual, usual]
    assert not list(boot.place.glob("loader/entries/*guarded*"))
    assert not (boot.store() / "guard.state").exists()


def test_the_guarded_boot_and_its_end(ext4: BootMachine) -> None:
    before = ext4.entry_of(A).read_text()
    name, problems = ext4.transact(config=GUARDED)
    assert problems == ()
    expect_guarded(ext4, name)
    usual, guarded = ext4.entry(USUAL), ext4.entry("A-fs-snapshot-guarded")
    assert {key: guarded[key] for key in ("linux", "initrd", "version")} == {
        key: usual[key] for key in ("linux", "initrd", "version")
    }
    added = "panic=10 systemd.crash_reboot=1 rd.shell=0 rd.emergency=reboot fs_rollback.guard=1"
    assert guarded["options"].strip() == f"{usual['options'].strip()} {added}"
    assert ext4.entry_of(A).read_text() == before, "the usual entry is not ours"
    status = fs_rollback(ext4.root, "guard", "status", "--json").json
    assert (status["armed"], status["next_boot"], status["way_back"]) == (True, "guarded", name)
    assert differences("guard", status) == []
    checked = fs_rollback(ext4.root, "check", "--json").json
    codes = {link["code"]: link["grade"] for link in checked["links"]}
    assert codes["one-shot-entry.guarded"] == "ok"
    assert not {"default-entry.snapshot", "default-entry.way-back"} & set(codes)
    done(ext4.root, "guard", "off")
    expect_nothing_left(ext4)


def test_a_boot_that_is_not_confirmed_yet(ext4: BootMachine) -> None:
    """GRUB has forgotten the entry: another reboot leads back, and that is said."""
    name, _ = ext4.transact(config=GUARDED)
    ext4.write_grubenv({**told(ext4), "next_entry": ""})
    assert next_boots(ext4)[0] == way_back(name)
    checked = fs_rollback(ext4.root, "check", "--json").json
    assert "default-entry.way-back" in {link["code"] for link in checked["links"]}
    said = fs_rollback(ext4.root, "guard", "status").out
    assert f"The next boot goes back to {name}" in " ".join(said.split())


def test_the_setting_decides(ext4: BootMachine) -> None:
    ext4.transact()
    expect_nothing_left(ext4)
    done(ext4.root, "guard", "on")
    first = next_boots(ext4)[1]
    _, problems = ext4.transact()
    assert problems == ()
    assert next_boots(ext4) == ["A-fs-snapshot-guarded", first], "it was on, and stays so"


def test_on_before_a_transaction(ext4: BootMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was changed before this boot has come up: the way back is to before what comes now."""
    older, _ = ext4.transact()
    monkeypatch.setattr(kernels, "boot_began_s", lambda: time.time() + 60)
    monkeypatch.setattr(Host, "is_running", True)
    with ext4.machine.writing() as (host, store):
        assert not by_hand.is_unproven(host, by_hand.newest(store))
    monkeypatch.undo()
    with ext4.machine.writing() as (host, store):
        back = by_hand.newest(store)
        assert by_hand.is_unproven(host, back)
        arm.arm(host, store, back, 2, is_unproven=False)
    expect_guarded(ext4, older)
    name, _ = ext4.transact()
    expect_guarded(ext4, name)


def test_the_way_back_is_from_before_all_that_was_never_booted(ext4: BootMachine) -> None:
    first, _ = ext4.transact(config=GUARDED)
    for _ in range(3):
        _, problems = ext4.transact(config=GUARDED)
        assert problems == ()
    expect_guarded(ext4, first)
    done(ext4.root, "create")
    done(ext4.root, "prune")
    expect_guarded(ext4, first)
    assert fs_rollback(ext4.root, "delete", first).code == 3, "it is the way back"
    with ext4.machine.writing() as (_, store):
        guard = guards.read(store)
        assert guard.armed is not None
        proven = guard.armed._replace(is_unproven=False)
        guards.write(store, guard._replace(armed=proven))
    last, _ = ext4.transact(config=GUARDED)
    expect_guarded(ext4, last)


def test_a_kernel_that_comes_is_what_is_guarded(ext4: BootMachine) -> None:
    ext4.transact(config=GUARDED)
    name, problems = ext4.transact(ext4.install_b, GUARDED)
    assert problems == ()
    assert ext4.entry("A-fs-snapshot-guarded")["version"].strip() == B
    assert name
    done(ext4.root, "guard", "off")
    expect_nothing_left(ext4, f"{TOKEN}-{B}")


def test_packages_that_change_without_an_end(ext4: BootMachine) -> None:
    """As PackageKit's offline update: it is guarded before it, and again behind it."""
    wanted = Transaction("packagekit", ("pk-offline-update",), "root", ())
    taken = transaction.before(wanted, str(ext4.root), GUARDED)
    assert isinstance(taken, transaction.Taken)
    assert transaction.guard(taken) == ()
    taken.release()
    expect_guarded(ext4, taken.record.name)
    ext4.install_b()
    with ext4.machine.writing() as (host, store):
        assert around.again(host, store, GUARDED) == ()
    expect_guarded(ext4, taken.record.name)
    assert ext4.entry("A-fs-snapshot-guarded")["version"].strip() == B
    done(ext4.root, "guard", "off")
    expect_nothing_left(ext4, f"{TOKEN}-{B}")


def test_a_transaction_sees_the_usual_default(ext4: BootMachine) -> None:
    """Scripts of packages read the default entry, and some set it."""
    seen: list[list[str]] = []
    ext4.transact(config=GUARDED)
    ext4.transact(lambda: seen.append(next_boots(ext4)), GUARDED)
    assert seen == [[USUAL, USUAL]]


@pytest.mark.parametrize("words", [("rollback", "latest", "--yes"), ("try", "latest")])
def test_what_else_tells_the_loader(ext4: BootMachine, words: tuple[str, ...]) -> None:
    name, _ = ext4.transact(config=GUARDED)
    assert fs_rollback(ext4.root, *words).code in (0, 1)
    if words[0] == "rollback":
        assert next_boots(ext4) == [USUAL, USUAL]
        done(ext4.root, "undo", "--yes")
        done(ext4.root, "guard", "off")
        expect_nothing_left(ext4)
    else:
        assert next_boots(ext4) == [way_back(name), USUAL], "a person tries it: no boot has failed"
        assert not (ext4.store() / "guard.state").exists()


@pytest.mark.parametrize("kind", ["subvolume", "in the root", "top level", "efi"])
def test_where_it_cannot_be(make_boot: MakeBoot, kind: str) -> None:
    boot = make_boot(kind)
    before = boot.setting.read_bytes()
    _, problems = boot.transact(config=GUARDED)
    (problem,) = problems
    assert "the next boot cannot be guarded" in problem
    ended = fs_rollback(boot.root, "guard", "on")
    ended.expect_refusal("cannot be guarded", "fs-rollback check")
    status = fs_rollback(boot.root, "guard", "status", "--json").json
    assert (status["possible"], status["armed"]) == (False, False)
    assert "A guarded boot needs systemd-boot, or GRUB" in status["reason"]
    assert boot.setting.read_bytes() == before


def test_grub_that_saves_choices(ext4: BootMachine) -> None:
    """The way back is no entry that somebody has chosen in the menu once."""
    ext4.machine.write(ext4.root, "etc/default/grub", "GRUB_DEFAULT=saved\nGRUB_SAVEDEFAULT=true\n")
    name, _ = ext4.transact(config=GUARDED)
    done(ext4.root, "create")
    expect_guarded(ext4, name)


@pytest.fixture
def failed(ext4: BootMachine) -> BootMachine:
    """Give a machine whose guarded boot has failed, and that nobody has looked at since."""
    name, _ = ext4.transact()
    with ext4.machine.writing() as (_, store):
        failure = Failure(
            name, "", "dnf upgrade", "it is so", ("a: line",), "2026-11-30T00:00:00Z", ""
        )
        guards.write(store, Guard(None, failure))
    return ext4


def test_updates_where_nobody_sits_wait(
    failed: BootMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = Transaction("dnf4", ("dnf-automatic",), "root", ())
    monkeypatch.setattr(around, "is_attended", lambda: False)
    with pytest.raises(RefusedError, match=r"after 'dnf upgrade' this machine fell back to"):
        transaction.before(wanted, str(failed.root))
    monkeypatch.setattr(around, "is_attended", lambda: True)
    taken = transaction.before(wanted, str(failed.root))
    assert isinstance(taken, transaction.Taken)
    assert "guard acknowledge" in taken.warnings[0]
    taken.release()
    status = fs_rollback(failed.root, "status", "--json").json
    assert any("it is so" in line for line in status["attention"])
    answer = fs_rollback(failed.root, "guard", "status", "--json")
    assert answer.code == 1
    assert differences("guard", answer.json) == []
    done(failed.root, "guard", "acknowledge")
    monkeypatch.setattr(around, "is_attended", lambda: False)
    taken = transaction.before(wanted, str(failed.root))
    assert isinstance(taken, transaction.Taken)
    taken.release()
    assert fs_rollback(failed.root, "guard", "status").code == 0
    assert "nothing to acknowledge" in done(failed.root, "guard", "acknowledge").out


def test_a_state_that_cannot_be_read(ext4: BootMachine) -> None:
    ext4.transact()
    (ext4.store() / "guard.state").write_text('{"version": 2}')
    ended = fs_rollback(ext4.root, "guard", "off")
    assert (ended.code, "is newer than this program" in ended.err) == (1, True)
    assert fs_rollback(ext4.root, "status").code == 1
    assert fs_rollback(ext4.root, "guard", "status").code == 1


def test_what_the_journal_says_of_a_boot_that_failed() -> None:
    assert outcome._row("no JSON") is None
    assert outcome._row('{"MESSAGE": [1, 2], "_BOOT_ID": "b"}') is None
    row = outcome._row('{"MESSAGE": "m", "_BOOT_ID": "b", "PRIORITY": "3"}')
    assert row == ("b", 3, ": m")


@pytest.mark.parametrize("is_armed", [False, True], ids=["arming", "disarming"])
@pytest.mark.parametrize("committed", [False, True], ids=["as it goes", "all committed"])
def test_every_image_of_the_power(
    ext4: BootMachine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    committed: bool,
    is_armed: bool,
) -> None:
    """At each instant the next boot is the usual one, the guarded one, or the way back."""
    name, _ = ext4.transact(config=GUARDED if is_armed else Config())
    committing = (ext4.root, ext4.place) if committed else ()
    camera = power_cuts.observed(ext4, monkeypatch, tmp_path, committing)
    with ext4.machine.writing() as (host, store):
        if is_armed:
            arm.disarm(host, store)
        else:
            back = next(s for s in store.load() if s.name == name)
            arm.arm(host, store, back, 2, is_unproven=True)
    monkeypatch.undo()
    camera("it has returned")
    found = set()
    for label, disks in camera.different():
        ext4.adopt(*disks)
        boots = tuple(next_boots(ext4))
        found.add(boots)
        for entry in boots:
            for key in ("linux", "initrd"):
                assert ext4.found(ext4.entry(entry)[key]).stat().st_size, label
        if "try_" not in ext4.entry(boots[0])["options"]:
            done(ext4.root, "guard", "off")
            expect_nothing_left(ext4)
    usual, guarded, back_name = USUAL, "A-fs-snapshot-guarded", way_back(name)
    assert found >= {(usual, usual), (guarded, back_name)}
    assert found <= {(usual, usual), (guarded, usual), (guarded, back_name)}
