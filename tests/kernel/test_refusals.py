# SPDX-License-Identifier: GPL-2.0-or-later
"""What cannot be made safe is refused: code 3, one sentence, a way out, and nothing touched."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import btrfsutil
import pytest

from tests.kernel.commands import LOAD_ALL, Done, done, environment, fs_rollback
from tests.kernel.conftest import MakeMachine
from tests.kernel.faults import state
from tests.kernel.machine import KERNEL, Machine, run

ENTRY = f"boot/loader/entries/abc-{KERNEL}.conf"


def _refused(machine: Machine, *words: str, code: int = 3) -> Done:
    before = state(machine)
    ended = fs_rollback(machine.root, *words)
    assert ended.code == code, ended
    assert state(machine) == before
    lines = ended.err.splitlines()
    assert lines[0].startswith("fs-rollback: ")
    assert lines[-1].startswith("  "), "there is a hint"
    return ended


def _replace(machine: Machine, path: str, old: str, new: str) -> None:
    text = machine.read(path)
    assert old in text
    (machine.root / path).write_text(text.replace(old, new))


@pytest.fixture
def upgraded(named: Machine) -> Machine:
    named.upgrade()
    return named


def test_a_read_only_filesystem(upgraded: Machine) -> None:
    run("mount", "-o", "remount,ro", str(upgraded.root))
    run("mount", "-o", "remount,ro", str(upgraded.top))
    for command in (("create",), ("rollback", "--yes"), ("rollback", "--dry-run"), ("prune",)):
        assert "is read-only" in _refused(upgraded, *command).sentence
    assert len(done(upgraded.root, "list", "--json").json["snapshots"]) == 1
    assert fs_rollback(upgraded.root, "status").code == 1


def test_a_filesystem_with_a_device_missing(upgraded: Machine) -> None:
    second = upgraded.image.parent / "second.img"
    with second.open("wb") as file:
        file.truncate(256 << 20)
    device = run("losetup", "--find", "--show", str(second)).strip()
    try:
        run("btrfs", "device", "add", device, str(upgraded.top))
        upgraded.destroy()
        run("btrfs", "device", "scan", "--forget", device)
    finally:
        run("losetup", "--detach", device)
    run("mount", "-o", "loop,degraded,subvolid=5", str(upgraded.image), str(upgraded.top))
    run("mount", "-o", "loop,degraded,subvol=root", str(upgraded.image), str(upgraded.root))
    assert "a device missing" in _refused(upgraded, "rollback", "--yes").sentence


def test_what_is_no_root(named: Machine, tmp_path: Path) -> None:
    named.take()
    memory = tmp_path / "memory"
    memory.mkdir()
    run("mount", "-t", "tmpfs", "none", str(memory))
    places = {
        memory: "is tmpfs, not btrfs",
        named.root / "usr": "is not the root of a btrfs subvolume",
        named.root / "etc/fstab": "is not a directory",
        tmp_path / "nothing": "is not a directory",
    }
    for place, reason in places.items():
        for command in ("list", "rollback"):
            ended = fs_rollback(place, command)
            assert (ended.code, ended.sentence) == (3, f"{place} {reason}"), ended
    run("umount", str(memory))


_WITHOUT_ROOT = (
    "status", "status --json", "check", "list", "show 1", "diff 1", "log", "create -m text",
    "pin 1", "unpin 1", "delete 1", "delete 1 --dry-run", "prune", "restore 1 /etc/fstab",
    "mount 1", "umount", "shell 1", "rollback --yes", "try 1", "undo", "settle", "guard on",
    "guard status", "guard check", "list --device /dev/null", "list --root /mnt",
    "convert check", "convert check --device /dev/null", "convert prepare", "convert finish",
    "convert abort", "convert run --device /dev/null",
)  # fmt: skip


def test_not_root() -> None:
    become_nobody = (
        f"import os, sys; {LOAD_ALL} from fs_rollback.cli.main import main;"
        " os.setgroups([]); os.setgid(65534); os.setuid(65534); sys.exit(main())"
    )
    for words in map(str.split, _WITHOUT_ROOT):
        ended = subprocess.run(
            [sys.executable, "-c", become_nobody, *words],
            capture_output=True,
            text=True,
            check=False,
            env=environment(),
            cwd="/",
        )
        assert ended.returncode == 1
        again = " ".join(words)
        assert ended.stderr == f"fs-rollback: must be run as root: sudo fs-rollback {again}\n"


def test_no_store_yet(named: Machine) -> None:
    subvolumes = named.subvolume_paths()
    for words in (("rollback",), ("undo",), ("delete", "1"), ("pin", "latest")):
        ended = fs_rollback(named.root, *words)
        assert (ended.code, ended.sentence[:26]) == (2, "there are no snapshots yet")
    assert done(named.root, "list", "--json").json["snapshots"] == []
    assert done(named.root, "prune").err == "fs-rollback: deleted 0 of 0 snapshots\n"
    assert fs_rollback(named.root, "status", "--json").json["newest"] is None
    assert fs_rollback(named.root, "show", "latest").code == 2
    assert named.subvolume_paths() == subvolumes
    assert not (named.top / "fs-snapshots").exists()
    done(named.root, "create")
    ended = _refused(named, "rollback", "--yes", code=2)
    assert ended.sentence == "there is no snapshot from before a transaction"
    assert _refused(named, "undo", "--yes").sentence == "there is no rollback to undo"


@pytest.mark.parametrize("path", ["etc/fstab", ENTRY])
def test_a_root_pinned_by_its_id(upgraded: Machine, path: str) -> None:
    number = btrfsutil.subvolume_id(str(upgraded.root))
    _replace(upgraded, path, "subvol=root", f"subvolid={number}")
    ended = _refused(upgraded, "rollback", "--yes")
    assert f"/{path}" in ended.sentence
    assert f"In /{path}, replace 'subvolid={number}' with 'subvol=root'" in ended.err
    attention = fs_rollback(upgraded.root, "status", "--json").json["attention"]
    assert any(f"subvolid={number}" in line for line in attention)
    # The edit that the hint names makes a machine that can be rolled back.
    _replace(upgraded, path, f"subvolid={number}", "subvol=root")
    done(upgraded.root, "rollback", "--yes")


def test_lines_that_disagree_are_both_named(upgraded: Machine) -> None:
    btrfsutil.create_subvolume(str(upgraded.top / "other"))
    _replace(upgraded, ENTRY, "subvol=root", "subvol=other")
    ended = _refused(upgraded, "rollback", "--yes")
    assert "disagree" in ended.sentence
    assert "etc/fstab line 2: UUID=" in ended.err or "etc/kernel/cmdline: root=" in ended.err
    assert f"/{ENTRY}: root=UUID={upgraded.uuid} ro rootflags=subvol=other" in ended.err
    assert fs_rollback(upgraded.root, "status").code == 1


def test_a_line_that_names_no_subvolume_there_is(upgraded: Machine) -> None:
    _replace(upgraded, "etc/fstab", "subvol=root", "subvol=rot")
    ended = _refused(upgraded, "rollback", "--yes")
    assert "/etc/fstab line 2 names a subvolume that does not exist" in ended.sentence


def test_a_line_that_names_the_top_level(make_machine: MakeMachine) -> None:
    machine = make_machine("top-level")
    machine.upgrade()
    _replace(machine, "etc/fstab", "defaults", "subvol=/")
    assert "/etc/fstab line 2 names the top level" in _refused(machine, "rollback").sentence


def test_another_root_than_the_one_that_boots(upgraded: Machine) -> None:
    done(upgraded.root, "create")
    run("umount", str(upgraded.root))
    btrfsutil.create_snapshot(str(upgraded.top / "root"), str(upgraded.top / "copy"))
    run("mount", "-o", "loop,subvol=copy", str(upgraded.image), str(upgraded.root))
    assert _refused(upgraded, "rollback", "--yes").sentence.startswith("/copy is the root here")


def _into_a_subvolume(machine: Machine, path: str) -> None:
    old = machine.root / (path + ".old")
    (machine.root / path).rename(old)
    btrfsutil.create_subvolume(str(machine.root / path))
    run("cp", "-a", f"{old}/.", str(machine.root / path))


@pytest.mark.parametrize("path", ["usr", "etc", "var", "var/lib", "var/lib/rpm"])
def test_what_rpm_owns_outside_of_the_root(make_machine: MakeMachine, path: str) -> None:
    machine = make_machine("named")
    _into_a_subvolume(machine, path)
    done(machine.root, "create")
    name = fs_rollback(machine.root, "list", "--json").json["snapshots"][0]["name"]
    ended = _refused(machine, "rollback", name, "--yes")
    assert "is a subvolume or filesystem of its own" in ended.sentence
    assert fs_rollback(machine.root, "status").code == 1


@contextmanager
def _transaction(machine: Machine) -> Iterator[None]:
    """Hold rpm's lock in a process of its own, as rpm does."""
    code = (
        "import fcntl, sys; file = open(sys.argv[1], 'w'); fcntl.lockf(file, fcntl.LOCK_EX);"
        " print(flush=True); sys.stdin.read()"
    )
    command = (sys.executable, "-c", code, str(machine.root / "var/lib/rpm/.rpm.lock"))
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield
        assert process.stdin is not None
        process.stdin.close()


def test_a_transaction_is_running(upgraded: Machine) -> None:
    with _transaction(upgraded):
        for words in (("rollback", "--yes"), ("rollback", "--dry-run")):
            assert _refused(upgraded, *words).sentence == "a package transaction is running"
        done(upgraded.root, "create")
    done(upgraded.root, "rollback", "--yes")


@pytest.mark.parametrize("place", ["swap", "var/lib/machines/swap file"])
def test_an_active_swap_file(upgraded: Machine, place: str) -> None:
    path = str(upgraded.root / place)
    Path(path).touch(0o600)
    run("chattr", "+C", path)
    run("fallocate", "-l", "8M", path)
    run("mkswap", path)
    run("swapon", path)
    try:
        ended = _refused(upgraded, "rollback", "--yes")
        assert f"the swap file {path} is active" in ended.sentence
        assert f"swapoff {shlex.quote(str(path))}" in ended.err
        if place == "swap":
            assert "Text file busy" in _refused(upgraded, "create", code=1).sentence
    finally:
        run("swapoff", path)
    done(upgraded.root, "rollback", "--yes")


def test_a_rollback_waits(upgraded: Machine) -> None:
    done(upgraded.root, "rollback", "--yes")
    for words in (("rollback", "latest", "--yes"), ("rollback", "--dry-run")):
        ended = _refused(upgraded, *words)
        assert ended.sentence == "a rollback is waiting for a reboot"
        assert "fs-rollback undo" in ended.err
    done(upgraded.root, "create")
    done(upgraded.root, "undo", "--yes")


def _add_entry(boot: Path, kernel: str, uuid: str) -> None:
    """Write the boot entry of a kernel into a /boot that is the subvolume "boot"."""
    (boot / f"loader/entries/abc-{kernel}.conf").write_text(
        f"title Test {kernel}\nversion {kernel}\nlinux /boot/vmlinuz-{kernel}\n"
        f"options root=UUID={uuid} ro rootflags=subvol=root quiet\n"
    )


@contextmanager
def _own_boot(machine: Machine) -> Iterator[Path]:
    """Give the machine a /boot that is a subvolume at the top level, as Oracle Linux has it."""
    boot = machine.top / "boot"
    btrfsutil.create_subvolume(str(boot))
    run("cp", "-a", f"{machine.root}/boot/.", str(boot))
    _add_entry(boot, KERNEL, machine.uuid)  # GRUB finds its image elsewhere now
    with (machine.root / "etc/fstab").open("a") as file:
        file.write(f"UUID={machine.uuid} /boot btrfs subvol=boot 0 0\n")
    run("mount", "-o", "loop,subvol=boot", str(machine.image), str(machine.root / "boot"))
    try:
        yield boot
    finally:
        run("umount", str(machine.root / "boot"))


def test_a_boot_of_its_own_without_a_kernel_that_fits(named: Machine) -> None:
    with _own_boot(named) as boot:
        name = named.upgrade()
        (boot / "vmlinuz-6.9.0-1").write_text("newer")
        _add_entry(boot, "6.9.0-1", named.uuid)
        warnings = done(named.root, "rollback", "--dry-run", "--json").json["warnings"]
        # No loader is set up there, so nobody but its user can choose.
        assert any(KERNEL in w and "in the boot menu" in w for w in warnings)
        assert any("6.9.0-1" in w and "no modules" in w for w in warnings)
        (boot / f"vmlinuz-{KERNEL}").unlink()
        shutil.rmtree(named.top / "fs-snapshots/boot")  # else it comes back from there
        ended = _refused(named, "rollback", "--yes")
        assert KERNEL in ended.sentence
        assert "6.9.0-1" in ended.sentence
        (boot / f"vmlinuz-{KERNEL}").write_text("kernel")
        done(named.root, "rollback", name, "--yes")


@contextmanager
def _writable(snapshot: Path) -> Iterator[None]:
    """Let a test write into a snapshot."""
    btrfsutil.set_subvolume_read_only(str(snapshot), False)
    yield
    btrfsutil.set_subvolume_read_only(str(snapshot), True)


def test_the_top_level_keeps_its_boot(make_machine: MakeMachine) -> None:
    """GRUB reads /boot from the top level there, whatever the default subvolume is."""
    machine = make_machine("top-level")
    name = machine.upgrade()
    image = machine.root / f"boot/vmlinuz-{KERNEL}"
    image.rename(machine.root / "boot/vmlinuz-6.9.0-1")
    tree = machine.top / "fs-snapshots" / name
    with _writable(tree):
        (tree / f"boot/vmlinuz-{KERNEL}").rename(tree / "boot/elsewhere")
    assert "no kernel in /boot" in _refused(machine, "rollback", "--yes").sentence
    with _writable(tree):
        (tree / "boot/elsewhere").rename(tree / f"boot/vmlinuz-{KERNEL}")
    done(machine.root, "rollback", "--yes")
    # The snapshot holds its own /boot: the kernel comes back from there.
    assert (machine.top / f"boot/vmlinuz-{KERNEL}").read_text() == "kernel\n"
    done(machine.root, "undo", "--yes")
    assert not image.exists()


@pytest.mark.parametrize(
    "path", ["/", "/usr", "/usr/lib", "/etc", "/boot/loader", "/var", "/var/lib/rpm", "/link"]
)
def test_what_packages_own_is_not_kept(upgraded: Machine, path: str) -> None:
    (upgraded.root / "link").symlink_to("/usr")
    ended = _refused(upgraded, "rollback", "--yes", "--keep", path)
    assert f"{path} cannot be kept" in ended.sentence


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("\nkeep_last = many\n", ("line 2", "keep_last", "whole number")),
        ("keep_lots = 3", ("line 1", "keep_lots", "keep_last, keep_days")),
        ("# fine\nkeep_days", ("line 2", "key = value")),
        ("keep = home", ("line 1", "keep", "absolute")),
    ],
)
def test_a_broken_configuration(upgraded: Machine, text: str, said: tuple[str, ...]) -> None:
    upgraded.write(upgraded.root, "etc/fs-rollback.conf", text)
    for words in (("rollback", "--yes"), ("prune",), ("prune", "--dry-run")):
        ended = _refused(upgraded, *words, code=2)
        assert "/etc/fs-rollback.conf" in ended.sentence
        assert all(part in ended.err for part in said), ended.err
    done(upgraded.root, "create")
    done(upgraded.root, "list")


@pytest.mark.parametrize("path", ["usr", "etc"])
def test_a_snapshot_that_is_no_root(named: Machine, path: str) -> None:
    """Refused before anything is touched."""
    broken = named.take()
    named.upgrade()
    tree = named.top / "fs-snapshots" / broken
    btrfsutil.set_subvolume_read_only(str(tree), False)
    (tree / path).rename(tree / "elsewhere")
    btrfsutil.set_subvolume_read_only(str(tree), True)
    ended = _refused(named, "rollback", broken, "--yes")
    assert ended.sentence == f"{named.label(broken)} contains no system: it has no /{path}"
