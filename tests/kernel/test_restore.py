# SPDX-License-Identifier: GPL-2.0-or-later
"""`restore` on a real btrfs: what comes back, and what stays beside."""

from __future__ import annotations

import os
from pathlib import Path

from tests.filling import fill
from tests.kernel.commands import Done, done, fs_rollback, on_terminal
from tests.kernel.machine import KERNEL, Machine, run
from tests.manifest import compare, manifest
from tests.unit.manual import differences

BEFORE = ".before-restore-"


def restored(machine: Machine, *words: str) -> Done:
    return done(machine.root, "restore", "--yes", *words)


def kept(path: Path) -> Path:
    """Return what was kept beside a path: one thing."""
    (found,) = path.parent.glob(f"{path.name}{BEFORE}*")
    return found


def strays(machine: Machine) -> list[str]:
    return [name for name in os.listdir(machine.root) if name.startswith(".fs-rollback")]


def test_a_file_comes_back_and_the_present_one_stays_beside(named: Machine) -> None:
    name = named.take()
    app = named.root / "etc/app.conf"
    app.write_text("setting 2\n")
    ended = restored(named, name, "/etc/app.conf")
    assert app.read_text() == "setting 1\n"
    assert kept(app).read_text() == "setting 2\n"
    assert f"/etc/{kept(app).name}" in ended.out
    assert strays(named) == []


def test_what_is_gone_comes_back_with_the_directories_above_it(named: Machine) -> None:
    (named.root / "srv/a/b").mkdir(parents=True)
    (named.root / "srv/a/b/file").write_text("x")
    (named.root / "srv/a").chmod(0o2750)
    os.chown(named.root / "srv/a", 12, 13)
    name = named.take()
    run("rm", "-r", str(named.root / "srv"))
    restored(named, name, "/srv/a/b/file")
    assert (named.root / "srv/a/b/file").read_text() == "x"
    status = (named.root / "srv/a").stat()
    assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o2750, 12, 13)
    assert list(named.root.rglob(f"*{BEFORE}*")) == []


def test_everything_of_a_file_comes_back(named: Machine) -> None:
    """Held against a list of all that can be told of it, made by another program."""
    fill(named.root / "srv", wide=500)
    run("chattr", "+C", str(named.root / "var/log"))
    (named.root / "var/log/journal").write_bytes(b"x" * 9000)
    (named.root / "var/log/.fs-rollback-nocow").touch()  # anybody may call a file so
    os.setxattr(named.root / "var/log/journal", "security.selinux", b"system_u:object_r:x_t:s0\0")
    before = {place: manifest(named.root / place) for place in ("srv", "var/log")}
    name = named.take()
    run("chattr", "-R", "-f", "-i", "-a", str(named.root / "srv")) if False else None
    run("mv", str(named.root / "srv"), str(named.root / "moved"))
    (named.root / "var/log/journal").write_text("y")
    restored(named, name, "/srv", "/var/log")
    for place, expected in before.items():
        assert compare(expected, manifest(named.root / place)) == []
    assert "C" in run("lsattr", str(named.root / "var/log/journal")).split()[0]


def test_hard_links_between_paths_and_inside_one_stay_links(named: Machine) -> None:
    (named.root / "srv/d").mkdir(parents=True)
    (named.root / "srv/one").write_text("x")
    for other in ("srv/two", "srv/d/three"):
        os.link(named.root / "srv/one", named.root / other)
    name = named.take()
    run("rm", "-r", str(named.root / "srv"))
    restored(named, name, "/srv/one", "/srv/two", "/srv/d")
    inodes = {(named.root / f"srv/{path}").stat().st_ino for path in ("one", "two", "d/three")}
    assert len(inodes) == 1


def test_one_kind_takes_the_place_of_another(named: Machine) -> None:
    root = named.root
    (root / "srv/a").mkdir(parents=True)
    (root / "srv/b").symlink_to("/nowhere")
    name = named.take()
    (root / "srv/a").rmdir()
    (root / "srv/a").write_text("a file now")
    (root / "srv/b").unlink()
    (root / "srv/b").mkdir()
    (root / "srv/b/inside").write_text("x")
    restored(named, name, "/srv/a", "/srv/b")
    assert (root / "srv/a").is_dir()
    assert os.readlink(root / "srv/b") == "/nowhere"
    assert kept(root / "srv/a").read_text() == "a file now"
    assert (kept(root / "srv/b") / "inside").read_text() == "x"


def test_data_is_shared_with_the_snapshot(named: Machine) -> None:
    big = named.root / "srv/big"
    big.parent.mkdir()
    big.write_bytes(os.urandom(4 << 20))
    run("sync", "-f", str(named.root))
    name = named.take()
    big.unlink()
    restored(named, name, "/srv/big")
    assert run("btrfs", "filesystem", "du", "--raw", "-s", str(big)).split()[-3] == "0"


def _exclusive(path: Path) -> int:
    return int(run("btrfs", "filesystem", "du", "--raw", "-s", str(path)).split()[-3])


def _is_nocow(path: Path) -> bool:
    return "C" in run("lsattr", "-d", str(path)).split()[0]


def test_data_that_is_overwritten_in_place_is_shared_too(named: Machine, tmp_path: Path) -> None:
    """A file that is NOCOW, alone and with two names, and one that is not, in a directory that is.

    So do the copies of a rollback. On another btrfs it is a copy, and as NOCOW as the original.
    """
    place, log = named.root / "srv", named.root / "var/log"
    for directory in (place / "nocow", place / "cow"):
        directory.mkdir(parents=True)
    plain, disk, other = place / "nocow/plain", place / "cow/disk", place / "cow/other"
    plain.write_bytes(os.urandom(1 << 20))
    run("chattr", "+C", str(place / "nocow"))
    for path in (disk, log / "journal"):
        path.touch()
        run("chattr", "+C", str(path))
        path.write_bytes(os.urandom(1 << 20))
    os.link(disk, other)
    run("sync", "-f", str(named.root))
    name = named.take()
    run("rm", "-r", str(place))
    restored(named, name, "/srv")
    assert [_is_nocow(path) for path in (plain, disk, plain.parent)] == [False, True, True]
    assert (_exclusive(plain), _exclusive(disk), other.stat().st_nlink) == (0, 0, 2)
    image, aside = tmp_path / "other.img", tmp_path / "other"
    with image.open("wb") as file:
        file.truncate(200 << 20)
    run("mkfs.btrfs", "--quiet", str(image))
    aside.mkdir()
    run("mount", "-o", "loop", str(image), str(aside))
    try:
        done(named.root, "restore", f"--aside={aside}", name, "/srv/cow")
        assert _is_nocow(aside / "cow/disk")
        assert (aside / "cow/other").read_bytes() == disk.read_bytes()
    finally:
        run("umount", str(aside))
    (log / "journal").write_bytes(os.urandom(1 << 20))
    run("sync", "-f", str(named.root))
    named.roll_back(name)
    kept_journal = named.next_root() / "var/log/journal"
    assert kept_journal.read_bytes() == (log / "journal").read_bytes()
    assert (_is_nocow(kept_journal), _exclusive(kept_journal)) == (True, 0)


def test_a_protected_file_is_protected_again(named: Machine) -> None:
    path = named.root / "etc/fixed"
    path.write_text("x")
    run("chattr", "+i", str(path))
    name = named.take()
    run("chattr", "-i", str(path))
    path.unlink()
    restored(named, name, "/etc/fixed")
    assert "i" in run("lsattr", str(path)).split()[0]
    refused = fs_rollback(named.root, "restore", "--yes", name, "/etc/fixed")
    refused.expect_refusal("immutable", "chattr -i -a /etc/fixed")
    run("chattr", "-i", str(path))
    restored(named, name, "/etc/fixed")


def test_aside_leaves_what_is_there(named: Machine, tmp_path: Path) -> None:
    name = named.take()
    app = named.root / "etc/app.conf"
    app.write_text("setting 2\n")
    aside = tmp_path / "old"
    aside.mkdir()
    ended = done(named.root, "restore", name, "/etc/app.conf", "/var/lib", f"--aside={aside}")
    assert f"file /etc/app.conf as {aside}/app.conf" in ended.out
    assert app.read_text() == "setting 2\n"
    assert (aside / "app.conf").read_text() == "setting 1\n"
    assert (aside / "lib/rpm").is_dir(), "a copy of the package database harms nobody"
    assert sorted(os.listdir(aside)) == ["app.conf", "lib"]
    again = fs_rollback(named.root, "restore", name, "/etc/app.conf", f"--aside={aside}")
    again.expect_refusal("it already exists")
    inside = named.root / "srv"
    inside.mkdir()
    done(named.root, "restore", name, "/etc/app.conf", f"--aside={inside}")
    assert (inside / "app.conf").read_text() == "setting 1\n"


def test_files_are_whole_where_no_data_can_be_shared(named: Machine, tmp_path: Path) -> None:
    fill(named.root / "srv", wide=1)
    kinds = ("holes", "sizes", "preallocated", "links", "names", "times")
    before = {kind: manifest(named.root / "srv" / kind) for kind in kinds}
    restored(named, named.take(), *(f"/srv/{kind}" for kind in kinds), f"--aside={tmp_path}")
    for kind, expected in before.items():
        assert compare(expected, manifest(tmp_path / kind)) == []
    assert (tmp_path / "holes/over-4-gib").stat().st_blocks < 100, "its holes take no room"


def test_nothing_happens_without_a_yes(named: Machine) -> None:
    name = named.take()
    app = named.root / "etc/app.conf"
    app.write_text("setting 2\n")
    assert "dry run" in done(named.root, "restore", name, "/etc/app.conf", "--dry-run").out
    assert fs_rollback(named.root, "restore", name, "/etc/app.conf").code == 2
    # As with every locale but C's.
    strict = {"PYTHONIOENCODING": "utf-8:strict"}
    for typed in ("n\n", "\udcff\n"):
        terminal = on_terminal(named.root, "restore", name, "/etc/app.conf", env=strict)
        terminal.read_until(r"Restore\? \[y/N\]")
        terminal.type(typed)
        assert terminal.end() == 1
    assert (app.read_text(), strays(named)) == ("setting 2\n", [])
    assert len(os.listdir(named.root / "etc")) == 3
    terminal = on_terminal(named.root, "restore", name, "/etc/app.conf")
    terminal.read_until(r"Restore\? \[y/N\]")
    terminal.type("y\n")
    assert terminal.end() == 0
    assert app.read_text() == "setting 1\n"


def test_what_changed_while_the_question_was_asked_is_refused(named: Machine) -> None:
    name = named.take()
    app = named.root / "etc/app.conf"
    terminal = on_terminal(named.root, "restore", name, "/etc/app.conf")
    terminal.read_until(r"Restore\? \[y/N\]")
    (named.root / "etc/new").write_text("another file\n")
    (named.root / "etc/new").rename(app)
    terminal.type("y\n")
    assert terminal.end() == 3
    assert app.read_text() == "another file\n"


def test_the_answer_in_json(named: Machine) -> None:
    name = named.take()
    (named.root / "etc/app.conf").unlink()
    answer = done(named.root, "restore", "--json", name, "/etc/app.conf", "/var/data", "-y").json
    assert differences("restore", answer) == []
    rows = answer["paths"]
    assert [row["path"] for row in rows] == ["/etc/app.conf", "/var/data"]
    assert (rows[0]["kept"], answer["done"], answer["snapshot"]) == (None, True, name)
    assert (named.root / rows[1]["kept"].lstrip("/")).exists()
    told = fs_rollback(named.root, "log", "--json").json["events"]  # 1 without a journal here
    assert told == [] or told[-1]["event"] == "restored"


def test_what_the_next_boot_needs_is_warned_of_and_check_sees_it(named: Machine) -> None:
    """And of nothing else: a warning that is always there is read by nobody."""
    entry, modules = f"/boot/loader/entries/abc-{KERNEL}.conf", f"/usr/lib/modules/{KERNEL}"
    init = named.root / "usr/lib/systemd/systemd"
    init.parent.mkdir(parents=True)
    init.write_text("#!/bin/sh\n")
    init.chmod(0o755)
    (named.root / "sbin").symlink_to("usr/bin")
    (named.root / "usr/bin/init").symlink_to("../lib/systemd/systemd")
    (named.root / "usr/lib/other").mkdir()
    name = named.take()
    for path in (entry, "/boot", f"/boot/vmlinuz-{KERNEL}", modules, "/etc/fstab", "/etc",
                 "/etc/kernel/cmdline", "/sbin/init", "/usr/lib/systemd"):  # fmt: skip
        shown = done(named.root, "restore", name, path, "--dry-run")
        assert f"Run 'fs-rollback check --root {named.root}' afterwards" in shown.out, path
        assert shown.out.count("the next boot depends on") == 1
    words = "restore", name, "/etc/fstab", "--dry-run"
    terminal = on_terminal(named.root, *words, env={"COLUMNS": "60"})
    assert terminal.end() == 0
    lines = [line for line in terminal.text.splitlines() if str(named.root) not in line]
    assert max(map(len, lines)) <= 60, "it fits the terminal"
    for path in ("/etc/app.conf", "/usr/bin/app", "/usr/lib/other", "/var/data"):
        shown = done(named.root, "restore", "--json", name, path, "--dry-run")
        assert not shown.json["paths"][0]["boot"], path
    fstab = named.read("etc/fstab")
    (named.root / "etc/fstab").write_text("/dev/gone / btrfs errors=remount-ro 0 0\n")
    broken = named.take()
    (named.root / "etc/fstab").write_text(fstab)
    assert fs_rollback(named.root, "check").code != 3
    ended = done(named.root, "restore", "--json", "--yes", broken, "/etc/fstab")
    assert ended.json["paths"][0]["boot"]
    assert fs_rollback(named.root, "check").code == 3


def test_a_name_of_any_length_and_any_bytes(named: Machine) -> None:
    family = "\U0001f468\u200d\U0001f469".encode()  # people see one character
    units = [b"n", "\u00e4".encode(), "e\u0301".encode(), family]
    long = [unit * (255 // len(unit)) for unit in units]
    names = [*long, b"\xff\xfe", b"-rf", b"a\nb"]
    top = os.path.join(os.fsencode(named.root), b"srv")
    os.mkdir(top)
    for each in names:
        with open(os.path.join(top, each), "wb") as file:
            file.write(each)
    name = named.take()
    for each in names:
        with open(os.path.join(top, each), "wb") as file:
            file.write(b"newer")
    restored(named, name, *(os.fsdecode(b"/srv/" + each) for each in names))
    for each in names:
        with open(os.path.join(top, each), "rb") as file:
            assert file.read() == each
    beside = set(os.listdir(top)) - set(names)
    assert len(beside) == len(names)
    cut = [each.partition(BEFORE.encode())[0] for each in beside]
    for unit in units:
        (short,) = (each for each in cut if each.startswith(unit))
        assert short.replace(unit, b"") == b"", "no character is cut"
        assert len(short) + len(unit) > 255 - len(f"{BEFORE}20261128202327")
