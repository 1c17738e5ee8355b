# SPDX-License-Identifier: GPL-2.0-or-later
"""`diff` as people and scripts see it, on a machine with real packages."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from fs_rollback.core.loader.menu_names import is_snapshot_name
from tests.kernel.commands import Done, done, fs_rollback, on_terminal
from tests.kernel.conftest import MakeMachine
from tests.kernel.machine import Machine, run
from tests.need import need
from tests.sandbox.rpms import Package, build
from tests.unit.manual import differences

LONG = "".join(f"line {number}\n" for number in range(30))


def tool(version: str) -> Package:
    conf = {"/etc/tool.conf": f"as packaged in {version}\n", "/etc/tool.d/extra": LONG + version}
    entries = [
        f"* {day} 2026 A Packager <a@example.org> - {number}-1\n- version {number}\n"
        for number, day in (("2", "Mon Nov 02"), ("1", "Sun Nov 01"))
        if number <= version
    ]
    files = {**conf, "/usr/bin/tool": f"tool {version}\n"}
    return Package("tool", version, files=files, changelog="\n".join(entries))


def install(machine: Machine, package: Path) -> None:
    """Do what rpm does, with the scripts of nobody."""
    place = machine.root / "var/lib/rpm"
    options = "--nodeps", "--noscripts", "--notriggers", "--root", str(machine.root)
    run(
        "rpm",
        "--upgrade",
        *options,
        "--dbpath",
        f"/{place.relative_to(machine.root)}",
        str(package),
    )


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    need("rpmbuild", "rpm")
    wanted = (tool("1"), tool("2"), Package("more", "1"))
    return build(wanted, tmp_path_factory.mktemp("packages"))


@pytest.fixture
def machine(make_machine: MakeMachine, packages: list[Path]) -> Machine:
    """A machine after an upgrade, on which somebody has worked."""
    old, new, more = packages
    machine = make_machine("named")
    install(machine, old)
    (machine.root / "var/cache").mkdir()
    machine.upgrade()
    install(machine, new)
    install(machine, more)
    (machine.root / "etc/tool.conf").write_text("edited\n")
    (machine.root / "etc/mine").write_text("mine\n")
    (machine.root / "srv").mkdir()
    Path(os.fsdecode(os.fsencode(machine.root) + b"/srv/\xff\x1b")).touch()
    (machine.root / "usr/bin/own").write_text("mine\n")
    (machine.root / "etc/app.conf").rename(machine.root / "etc/app.conf.bak")
    (machine.root / "etc/kernel/cmdline").chmod(0o600)
    service = machine.root / "var/lib/mysql"
    service.mkdir()
    for number in range(5):
        (service / f"table{number}").write_text("rows")
    os.setxattr(machine.root / "usr/bin", "security.selinux", b"system_u:object_r:bin_t:s0")
    # What a command of ours has remembered on the machine itself.
    machine.write(machine.root, "var/cache/fs-rollback/diff-a-b.json", "{}")
    return machine


def rows(ended: Done) -> dict[str, list[dict[str, Any]]]:
    """Return the objects of the stream by their type; each line is one."""
    assert ended.code == 0, ended
    found: dict[str, list[dict[str, Any]]] = {}
    for line in ended.out.splitlines():
        answer = json.loads(line)
        assert differences("diff", answer) == []
        _, (kind, row) = answer.items()
        found.setdefault(kind, []).append(row)
    return found


def test_the_stream_has_packages_and_files(machine: Machine) -> None:
    (snapshot,) = machine.snapshots()
    found = rows(done(machine.root, "diff", "--json", snapshot.name))
    assert snapshot.subvolume is not None
    origin = {"id": snapshot.id, "name": snapshot.name, "uuid": snapshot.subvolume.uuid}
    assert found["sides"] == [{"from": origin, "to": None}]
    packages = [(p["action"], p["name"], p["from"], p["to"]) for p in found["package"]]
    assert packages == [("install", "more", None, "1-1"), ("upgrade", "tool", "1-1", "2-1")]
    files = {f["path"]: f for f in found["file"]}
    told = {path: (f["action"], f["package"], f["edited"]) for path, f in files.items()}
    assert any(is_snapshot_name(p.name) for p in machine.root.glob("boot/loader/entries/*"))
    assert {path: row for path, row in told.items() if not path.startswith("/var/lib/rpm")} == {
        "/etc/app.conf.bak": ("renamed", None, True),
        "/etc/kernel/cmdline": ("changed", None, True),
        "/etc/mine": ("added", None, True),
        "/etc/tool.conf": ("changed", "tool", True),
        "/etc/tool.d/extra": ("changed", "tool", False),
        "/srv": ("added", None, True),
        "/srv/\udcff\x1b": ("added", None, True),
        "/usr/bin": ("changed", None, True),
        "/usr/bin/app": ("changed", None, True),
        "/usr/bin/own": ("added", None, True),
        "/usr/bin/tool": ("changed", "tool", False),
        "/var/data": ("changed", None, True),
        "/var/lib/mysql": ("added", None, True),
        **{f"/var/lib/mysql/table{n}": ("added", None, True) for n in range(5)},
    }
    assert files["/etc/app.conf.bak"]["source"] == "/etc/app.conf"
    assert files["/etc/app.conf.bak"]["what"] == ["content"]
    assert files["/etc/kernel/cmdline"]["what"] == ["mode"]
    assert files["/usr/bin"]["what"] == ["security.selinux"]
    assert found["end"] == [
        {"packages": 2, "advisories": None, "files": len(files), "problems": []}
    ]


def test_the_other_way_round_is_the_reverse(machine: Machine) -> None:
    first = machine.snapshots()[0].name
    second = machine.take()
    forward = rows(done(machine.root, "diff", "--json", first, second))
    back = rows(done(machine.root, "diff", "--json", second, first))
    reverse = {"added": "removed", "removed": "added", "changed": "changed", "renamed": "renamed"}
    assert {(reverse[f["action"]], f["source"] or f["path"]) for f in forward["file"]} == {
        (f["action"], f["path"]) for f in back["file"]
    }
    assert [(p["action"], p["name"]) for p in back["package"]] == [
        ("remove", "more"),
        ("downgrade", "tool"),
    ]
    nothing = rows(done(machine.root, "diff", "--json", second))
    assert nothing["end"][0] == {"packages": 0, "advisories": None, "files": 0, "problems": []}


SCREEN = """\
From {id} ({name}), taken {date}, to the running system:

Packages: 1 upgraded, 1 new
  Action    Package      From    To
  --------  -----------  ------  ----
  install   more.noarch  -       1-1
  upgrade   tool.noarch  1-1     2-1

Files in /etc: 5
  renamed  /etc/app.conf -> /etc/app.conf.bak  (content)
  changed  /etc/kernel/cmdline  (mode)
  added    /etc/mine
  changed  /etc/tool.conf  (content, edited, of package tool)
  changed  /etc/tool.d/extra  (content, by package tool)

Other files (--all or --path PATH lists them)
  2  /srv
  3  /usr/bin
  1  /var
  6  /var/lib/mysql
  {rpm}  /var/lib/rpm

Files that packages added, changed or removed: 1 (--all lists them)
"""


def test_what_people_see(machine: Machine) -> None:
    (snapshot,) = machine.snapshots()
    told = done(machine.root, "diff", str(snapshot.id)).out
    date = f"{snapshot.created:%Y-%m-%d %H:%M}"
    count = next(line.split()[0] for line in told.splitlines() if line.endswith("/var/lib/rpm"))
    assert told == SCREEN.format(id=snapshot.id, name=snapshot.name, date=date, rpm=count)
    named = done(machine.root, "diff", str(snapshot.id), "--all").out
    assert "  added    /var/lib/mysql  (directory)\n" in named
    assert "  changed  /usr/bin/tool  (content, by package tool)\n" in named
    only = done(machine.root, "diff", str(snapshot.id), "--path", "/var/lib/mysql").out
    assert only.count("\n") == 2 + 1 + 6
    assert done(machine.root, "diff", machine.take()).out.endswith("\n\nNothing differs.\n")


def test_the_texts_of_etc(machine: Machine) -> None:
    (snapshot,) = machine.snapshots()
    (machine.root / "etc/binary").write_bytes(b"\0\1")
    told = done(machine.root, "diff", snapshot.name, "--etc", "--patch").out
    assert (
        "/etc/tool.conf\n--- /etc/tool.conf\n+++ /etc/tool.conf\n@@ -1 +1 @@\n"
        "-as packaged in 1\n+edited\n"
    ) in told
    assert "\n--- /dev/null\n+++ /etc/mine\n@@ -0,0 +1 @@\n+mine\n" in told
    assert "\n--- /etc/app.conf\n+++ /etc/app.conf.bak\n" in told
    assert "Binary or large files /etc/binary and /etc/binary differ\n" in told
    assert "Packages" not in told
    by_path = {
        f["path"]: f
        for f in rows(done(machine.root, "diff", snapshot.name, "--etc", "--patch", "--json"))[
            "file"
        ]
    }
    assert by_path["/etc/mine"]["patch"].endswith("+mine")
    assert by_path["/etc/kernel/cmdline"]["patch"] is None


def test_a_text_that_diff_would_show_otherwise(machine: Machine) -> None:
    name = machine.take()
    (machine.root / "etc/mine").write_text("mine")
    (machine.root / "etc/odd").write_text("a\fb\rc\u2028d\n")
    found = {
        f["path"]: f for f in rows(done(machine.root, "diff", name, "--patch", "--json"))["file"]
    }
    (machine.root / "old").write_text("mine\n")
    for path, old in (("/etc/mine", str(machine.root / "old")), ("/etc/odd", "/dev/null")):
        words = ("diff", "-u", "--label", old, "--label", path, old, f"{machine.root}{path}")
        expected = subprocess.run(words, capture_output=True, check=False).stdout.decode()
        heading, _, rest = found[path]["patch"].partition("\n+++ ")
        assert heading == "--- " + ("/etc/mine" if path == "/etc/mine" else "/dev/null")
        assert f"+++ {rest}\n" == expected.partition("\n")[2]


def test_a_path_through_a_link_and_one_that_is_not_compared(machine: Machine) -> None:
    name = machine.snapshots()[0].name
    (machine.root / "bin").symlink_to("usr/bin")
    (machine.root / "gone").symlink_to("/nowhere")

    def listed(place: str) -> tuple[list[str], str]:
        ended = done(machine.root, "diff", name, "--path", place)
        lines = [line.split()[1] for line in ended.out.splitlines() if line.startswith("  ")]
        return lines, ended.err

    assert listed("/bin/tool") == (["/usr/bin/tool"], "")
    assert listed("/bin")[0] == ["/bin", *listed("/usr/bin")[0]]
    assert listed("/gone") == (["/gone"], "")
    assert listed("/etc/toool.conf") == (
        [],
        "fs-rollback: /etc/toool.conf is not compared: it is on neither side\n",
    )
    for place in ("/var/lib/machines", "/var/lib/machines/guest"):
        found, said = listed(place)
        assert (found, f"{place} is not compared: it is on another" in said) == ([], True)
    run("mount", "-t", "tmpfs", "none", str(machine.root / "home"))
    try:
        assert "/home/user is not compared: it is on another" in listed("/home/user")[1]
    finally:
        run("umount", str(machine.root / "home"))


def test_the_store_in_a_root_is_no_difference(make_machine: MakeMachine) -> None:
    machine = make_machine("top-level")
    name = machine.take()
    machine.take()
    (machine.root / "fs-snapshots-of-mine").touch()
    found = {file["path"] for file in rows(done(machine.root, "diff", "--json", name))["file"]}
    assert {path for path in found if path.startswith("/fs")} == {"/fs-snapshots-of-mine"}


def test_mistakes(machine: Machine) -> None:
    name = machine.snapshots()[0].name
    fs_rollback(machine.root, "diff", "nothing").expect_refusal("nothing", code=2)
    fs_rollback(machine.root, "diff", name, "--path", "etc").expect_refusal("etc", code=2)
    run("btrfs", "subvolume", "delete", str(machine.top / "fs-snapshots" / name))
    fs_rollback(machine.root, "diff", name).expect_refusal("was deleted", code=2)


def test_what_cannot_be_compared_is_said(machine: Machine) -> None:
    name = machine.snapshots()[0].name
    shutil.copyfile("/etc/os-release", machine.root / "var/lib/rpm/rpmdb.sqlite")
    ended = fs_rollback(machine.root, "diff", name)
    assert ended.code == 1
    assert "cannot compare the packages: rpm failed" in ended.err
    assert "cannot tell which packages the files belong to" in ended.err
    assert "added    /etc/mine" in ended.out


def test_colours_and_a_pager_on_a_terminal(machine: Machine) -> None:
    name = machine.snapshots()[0].name

    def seen(**environment: str) -> tuple[bool, bool, set[bool]]:
        terminal = on_terminal(machine.root, "diff", name, env=environment)
        assert terminal.end() == 0
        text = terminal.text
        return (
            "\033[32madded" in text,
            "\033" in text,
            {line[:1] == "|" for line in text.splitlines()},
        )

    assert seen(TERM="xterm", PAGER="sed s/^/|/") == (True, True, {True})
    assert seen(TERM="xterm", PAGER="") == (True, True, {False})
    assert seen(TERM="xterm", PAGER="'") == (True, True, {False})
    assert seen(TERM="xterm", PAGER="nothing-of-this-name") == (True, True, {False})
    assert seen(TERM="xterm", PAGER="cat", NO_COLOR="1") == (False, False, {False})
    assert seen(TERM="dumb", PAGER="cat") == (False, False, {False})
    assert seen(TERM="dumb", PAGER="sed s/^/|/") == (False, False, {False}), "an editor's, perhaps"


def test_the_changelog_has_what_is_new(machine: Machine) -> None:
    name = machine.snapshots()[0].name
    told = done(machine.root, "diff", name, "--changelog").out
    assert (
        "\nChangelog of tool\n  2026-11-02 A Packager <a@example.org> - 2-1\n    - version 2\n"
    ) in told
    assert "version 1" not in told
    (entry,) = next(
        row["changelog"]
        for row in rows(done(machine.root, "diff", name, "--changelog", "--json"))["package"]
        if row["name"] == "tool"
    )
    assert (entry["author"], entry["text"]) == ("A Packager <a@example.org> - 2-1", "- version 2")


def test_what_does_not_change_is_remembered(machine: Machine) -> None:
    cache = Path(os.environ["CACHE_DIRECTORY"])
    first, second = machine.snapshots()[0].name, machine.take()
    before = set(cache.iterdir()) if cache.exists() else set()
    told = done(machine.root, "diff", first, second, "--json").out
    (file,) = set(cache.iterdir()) - before
    assert file.stat().st_mode & 0o077 == 0
    changed = file.read_text().replace('"/etc/mine"', '"/etc/from-the-cache"')
    file.write_text(changed)
    known = done(machine.root, "diff", first, second, "--json").out
    assert known == told.replace('"/etc/mine"', '"/etc/from-the-cache"')
    for text in ("", "null", '{"rows": 7}', '{"rows": [[1, 2, 3]]}', '{"rows": [[[], 2, 3]]}'):
        file.write_text(text)
        assert done(machine.root, "diff", first, second, "--json").out == told, text
    snapshot = machine.top / "fs-snapshots" / second
    file.write_text(changed)
    run("btrfs", "property", "set", str(snapshot), "ro", "false")
    assert "from-the-cache" not in done(machine.root, "diff", first, second, "--json").out
    (snapshot / "etc/later").touch()
    run("btrfs", "property", "set", str(snapshot), "ro", "true")
    assert '"/etc/later"' in done(machine.root, "diff", first, second, "--json").out
    assert set(cache.iterdir()) - before > {file}
