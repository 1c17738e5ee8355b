# SPDX-License-Identifier: GPL-2.0-or-later
"""Old setuid files and files with capabilities: `restore` puts none where users can reach them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from fs_rollback.system.execute import clones
from fs_rollback.system.linux import files
from tests.kernel.commands import done
from tests.kernel.machine import Machine, run
from tests.manifest import manifest

# capability.h: VFS_CAP_REVISION_2, cap_net_raw permitted and effective.
_PING = bytes.fromhex("0100000200200000000000000000000000000000")
_CAPABILITIES = "security.capability"
_LABEL = "security.selinux"


@pytest.fixture(name="tools")
def _tools(named: Machine) -> Path:
    """Return a directory with one file of each kind."""
    place = named.root / "usr/libexec"
    (place / "deep").mkdir(parents=True)
    for name, mode in {"su": 0o4755, "mail": 0o2755, "both": 0o6711, "deep/x": 0o4700}.items():
        (place / name).write_text(name)
        os.chown(place / name, 12, 13)
        (place / name).chmod(mode)
    os.link(place / "su", place / "deep/su")
    for name, mode in {"ping": 0o755, "fixed": 0o4755, "nocow": 0o4755}.items():
        (place / name).touch()
        if name == "nocow":
            run("chattr", "+C", str(place / name))
        (place / name).write_text(name * 1000)
        (place / name).chmod(mode)
    os.setxattr(place / "ping", _CAPABILITIES, _PING)
    os.setxattr(place / "fixed", _LABEL, b"system_u:object_r:su_exec_t:s0\0")
    (place / "shared").mkdir(mode=0o2775)
    (place / "shared").chmod(0o2775)
    (place / "link").symlink_to("su")
    (place / "plain").write_text("plain")
    run("chattr", "+i", str(place / "fixed"))
    return place


def privileged(tree: Path) -> list[str]:
    """Return what find(1) and the kernel say gives rights: names in a tree."""
    found = run("find", str(tree), "-type", "f", "-perm", "/6000", "-printf", "%P\n").splitlines()
    capable = [
        p for p in tree.rglob("*") if _CAPABILITIES in os.listxattr(p, follow_symlinks=False)
    ]
    return sorted([*found, *(str(path.relative_to(tree)) for path in capable)])


def test_aside_where_users_can_come_they_lose_what_they_give(
    named: Machine, tools: Path, tmp_path: Path
) -> None:
    name = named.take()
    before = manifest(tools)
    aside = tmp_path / "open"
    aside.mkdir()
    for directory in (aside, *list(aside.parents)[:-1]):
        directory.chmod(directory.stat().st_mode | 0o055)
    ended = done(named.root, "restore", "--aside", str(aside), name, "/usr/libexec", "/usr/bin/app")
    assert f"because other users can reach {aside}: 8\n" in ended.out
    after = manifest(aside / "libexec")
    assert privileged(aside) == []
    run("chattr", "-i", str(aside / "libexec/fixed"))  # or nobody could remove it
    differing = {path for path in before if before[path] != after[path]}
    assert differing == {"su", "mail", "both", "deep/x", "deep/su", "ping", "fixed", "nocow"}
    for path in differing:
        mode = int(str(before[path]["mode"]), 8) & ~(stat.S_ISUID | stat.S_ISGID)
        xattrs = before[path]["xattrs"]
        assert isinstance(xattrs, dict)
        xattrs = {key: value for key, value in xattrs.items() if key != _CAPABILITIES}
        assert after[path] == {**before[path], "mode": f"{mode:04o}", "xattrs": xattrs}
    assert privileged(named.top / "fs-snapshots" / name / "usr/libexec") == privileged(tools)


def test_aside_where_only_root_can_come_and_in_place_they_stay(named: Machine, tools: Path) -> None:
    name = named.take()
    expected = privileged(tools)
    assert len(expected) == 8
    aside = named.root / "root/old"
    aside.mkdir(parents=True)
    aside.parent.chmod(0o700)
    dry = done(named.root, "restore", "--aside", str(aside), name, "/usr/libexec", "--dry-run")
    assert "lose" not in dry.out
    done(named.root, "restore", "--aside", str(aside), name, "/usr/libexec")
    assert privileged(aside / "libexec") == expected
    (tools / "mail").unlink()
    run("chattr", "-R", "-f", "-i", str(tools / "fixed"))
    words = ("restore", name, "/usr/libexec")
    asked = done(named.root, *words, "--dry-run")
    assert "Warning: restored files with setuid, setgid or capabilities" in asked.out
    assert "security holes of their old version: 8\n" in asked.out
    assert "no update replaces them: 7. Delete those" in asked.out
    row = done(named.root, *words, "--yes", "--json").json
    assert (row["paths"][0]["privileged"], row["paths"][0]["privileged_kept"]) == (8, 7)
    assert row["keeps_privileges"]
    assert privileged(tools) == expected
    plain = done(named.root, "restore", name, "/etc/app.conf", "--dry-run")
    assert "setuid" not in plain.out


def test_only_a_directory_of_root_on_the_same_filesystem_keeps_others_out(
    named: Machine, tools: Path, tmp_path: Path
) -> None:
    """What is mounted below one may be mounted elsewhere too, and a user enters what is theirs."""
    name = named.take()
    outside = tmp_path / "outside"
    outside.mkdir()
    run("mount", "-t", "tmpfs", "-o", "mode=755", "scratch", str(outside))
    try:
        for owner, mode in ((0, 0o755), (1000, 0o700)):
            aside = outside / f"aside-{owner}"
            aside.mkdir()
            aside.chmod(mode)
            os.chown(aside, owner, owner)
            done(named.root, "restore", "--aside", str(aside), name, "/usr/libexec/su")
            assert (aside / "su").read_text() == "su"
        assert privileged(outside) == []
    finally:
        run("umount", str(outside))


def test_what_a_bind_mount_shows_lies_where_it_is_shown_from(named: Machine, tools: Path) -> None:
    """Both in one subvolume: what is above the mount point keeps nobody from the directory."""
    name = named.take()
    public, private = named.root / "srv/public", named.root / "root/private"
    inside = public / "inside"
    inside.mkdir(parents=True)
    (private / "aside").mkdir(parents=True)
    for path in (public.parent, public, inside):
        path.chmod(0o755)
    private.chmod(0o700)
    run("mount", "--bind", str(public), str(private / "aside"))
    try:
        for aside in (private / "aside", private / "aside/inside"):
            words = ("restore", "--aside", str(aside), name, "/usr/libexec/su")
            assert not done(named.root, *words, "--json").json["keeps_privileges"]
        assert privileged(public) == []
        (public / "inside").chmod(0o700)  # that does, wherever it is shown
        (public / "inside/su").unlink()
        assert done(named.root, *words, "--json").json["keeps_privileges"]
    finally:
        run("umount", str(private / "aside"))
    assert privileged(public) == ["inside/su"]


def test_what_a_user_puts_there_meanwhile_gets_nothing_of_the_other(named: Machine) -> None:
    """A root that was set aside is writable: the file may be another one than was looked at."""
    source, copy = (named.root / name for name in ("srv/source", "srv/copy"))
    for place in (source, copy):
        place.mkdir(parents=True)
    (source / "tool").write_text("root's")
    (source / "tool").chmod(0o4755)
    (source / "evil").write_text("a user's")
    os.chown(source / "evil", 1000, 1000)
    with files.opened(str(source)) as there, files.opened(str(copy)) as here:
        seen = os.lstat("tool", dir_fd=there)
        (source / "evil").rename(source / "tool")
        clones.copy_file(there, here, "tool", seen)
    made = (copy / "tool").stat()
    assert (copy / "tool").read_text() == "a user's"
    assert (made.st_uid, stat.S_IMODE(made.st_mode)) == (1000, 0o644)
