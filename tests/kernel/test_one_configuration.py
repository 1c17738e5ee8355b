# SPDX-License-Identifier: GPL-2.0-or-later
"""One reader of fs-rollback.conf: whatever is there, every command and plugin says the same."""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import Callable

import pytest

from fs_rollback.config import Config
from fs_rollback.system.machine import configuration
from tests.kernel.commands import done, fs_rollback
from tests.kernel.machine import Machine, run

_WARN = Config(on_failure="warn")
_READABLE = {
    "a Latin-1 comment": b"# r\xe9gl\xe9 par Andr\xe9\non_failure = warn\n",
    "the mark of UTF-8": b"\xef\xbb\xbfon_failure = warn\n",
    "the mark in the middle": b"# one\n\xef\xbb\xbfon_failure = warn\n",
    "UTF-16, little": "\ufeffon_failure = warn\n".encode("utf-16-le"),
    "UTF-16, big": "\ufeff# \xe9\non_failure = warn\n".encode("utf-16-be"),
    "the line ends of DOS": b"# one\r\non_failure = warn\r\n",
    "the line ends of old Macs": b"# one\ron_failure = warn\r",
    "no line end": b"on_failure = warn",
    "tabs": b"\ton_failure\t=\twarn\t\n",
    "a key twice": b"on_failure = abort\non_failure = warn\n",
}
_BROKEN = {
    "no UTF-8 in a value": (b"on_failure = warn\nkeep = \xe9\n", "line 2: keep cannot be"),
    "a section": (b"[main]\non_failure = warn\n", "line 1 is not 'key = value': '[main]'"),
    "a comment after a value": (b"on_failure = warn\nkeep_days = 3 # three\n", "line 2: keep_days"),
    "zeros of a power cut": (b"on_failure = warn\n" + b"\0" * 4096, "line 2 is not"),
    "a zero in a path": (b"on_failure = warn\nkeep = /a\0b\n", "line 2: keep cannot be"),
    "UTF-16 without its mark": ("on_failure = warn\n".encode("utf-16-le"), "line 1"),
    "commas": (b"on_failure = warn\nkeep = /home,/root\n", "line 2: keep cannot be"),
    "as in $PATH": (b"on_failure = warn\nkeep = /home:/root\n", "line 2: keep cannot be"),
    "a variable": (b"on_failure = warn\nkeep = $HOME/db\n", "line 2: keep cannot be"),
    "quotes": (b"on_failure = warn\nkeep = \"/home\" '/a'\n", "line 2: keep cannot be"),
    "far too large": (b"on_failure = warn\n" + b"# x\n" * 300_000, "larger than 1024 KiB"),
}


def _read(tree: Path) -> tuple[Config, str]:
    config, broken = configuration.usable(str(tree))
    return config, str(broken or "")


def _etc(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    return tmp_path / "etc/fs-rollback.conf"


def test_what_is_readable_is_obeyed(tmp_path: Path) -> None:
    path = _etc(tmp_path)
    assert _read(tmp_path) == (Config(), "")
    for what, data in _READABLE.items():
        path.write_bytes(data)
        assert _read(tmp_path) == (_WARN, ""), what


def test_what_is_wrong_is_named_and_the_rest_obeyed(tmp_path: Path) -> None:
    path = _etc(tmp_path)
    for what, (data, said) in _BROKEN.items():
        path.write_bytes(data)
        config, problem = _read(tmp_path)
        assert said in problem, what
        assert len(problem) < 400, what
        if "without its mark" not in what:
            assert config == _WARN, what


def _directory(path: Path) -> None:
    path.mkdir()


def _pipe(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize("make", [_directory, _pipe])
def test_what_is_no_file_is_not_passed_over(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(_etc(tmp_path))
    config, problem = _read(tmp_path)
    assert config == Config()
    assert problem.startswith("/etc/fs-rollback.conf is ")


def test_links_lead_within_the_tree(tmp_path: Path) -> None:
    path = _etc(tmp_path)
    (tmp_path / "srv").mkdir()
    (tmp_path / "srv/shared.conf").write_text("on_failure = warn\n")
    path.symlink_to("/srv/shared.conf")
    assert _read(tmp_path) == (_WARN, "")
    path.unlink()
    (tmp_path / "dev").mkdir()
    os.mknod(tmp_path / "dev/null", 0o20666, os.makedev(1, 3))
    path.symlink_to("/dev/null")
    assert _read(tmp_path) == (Config(), ""), "masked"
    for target in ("/etc/of-another-machine.conf", path.name):
        path.unlink()
        path.symlink_to(target)
        assert _read(tmp_path) == (Config(), ""), "as where there is none"


def test_every_command_gives_the_same_answer(named: Machine) -> None:
    name = named.upgrade()
    plugin = "usr/lib/python3.9/site-packages/dnf-plugins/fs_snapshot.py"
    named.write(named.root, plugin, "# a plugin\n")
    path = named.root / "etc/fs-rollback.conf"
    path.write_bytes(b"# \xe9\nkeep_last = 1\nkeep_days = 0\n")
    assert "fs-rollback.conf" not in fs_rollback(named.root, "status").out
    done(named.root, "prune", "--dry-run")
    path.unlink()
    path.mkdir()
    for word in ("status", "check"):
        assert "/etc/fs-rollback.conf is not a file" in fs_rollback(named.root, word).out
    for command in (("prune", "--dry-run"), ("rollback", name, "--dry-run")):
        ended = fs_rollback(named.root, *command)
        ended.expect_refusal("/etc/fs-rollback.conf is not a file", "Correct or remove it.", code=2)
    done(named.root, "create")  # must not fail over that


def test_patterns_keep_what_they_match(named: Machine) -> None:
    name = named.upgrade()
    for path in ("a/one", "a/two/file", "a/.hidden", "a/[x]", "b/1/data/f", "b/2/data/f", "b/2/o"):
        named.write(named.root, path, "now\n")
    latin = os.fsencode(named.root) + b"/donn\xe9es"
    os.mkdir(latin)
    config = named.root / "etc/fs-rollback.conf"
    config.write_bytes(b"keep = /a/* /b/?/data /a/[x] /donn\xe9es /c/* /no\n")
    planned = done(named.root, "rollback", name, "--dry-run", "--json", "--keep", "/root/.pro*")
    kept = planned.json["reverts"]["kept"]
    assert kept == [
        "/a/[x]", "/a/one", "/a/two", "/b/1/data", "/b/2/data", "/donn\udce9es", "/root/.profile",
    ]  # fmt: skip
    assert [w for w in planned.json["warnings"] if "nothing is kept for" in w] == [
        "nothing is kept for /c/*: there is no such path",
        "nothing is kept for /no: there is no such path",
    ]
    none = fs_rollback(named.root, "rollback", name, "--dry-run", "--keep", "/c/*")
    assert (none.code, "--keep: /c/* does not exist" in none.err) == (2, True)
    (named.root / "a/link").symlink_to("/gone")
    for path in ("/a/link", "/a/link/inside"):
        link = fs_rollback(named.root, "rollback", name, "--dry-run", "--keep", path)
        said = "/a/link is a symbolic link to /gone, which does not exist"
        assert (link.code, f"--keep: {said}" in link.err) == (2, True), path
        assert "Give the path of the files themselves" in link.err
    (named.root / "a/link").unlink()
    config.write_text("keep = /*\n")
    fs_rollback(named.root, "rollback", name, "--yes").expect_refusal("/*", "cannot be kept")
    config.write_bytes(b"keep = /a/* /donn\xe9es\n")
    done(named.root, "rollback", name, "--yes")
    named.reboot()
    assert sorted(os.listdir(named.root / "a")) == ["[x]", "one", "two"]
    assert os.path.isdir(latin)
    assert not (named.root / "b").exists()


def test_the_defaults_are_passed_over_where_they_do_not_exist(named: Machine) -> None:
    name = named.upgrade()
    assert not (named.root / "srv").exists()
    assert done(named.root, "rollback", name, "--dry-run", "--json").json["warnings"] == []


def test_files_on_a_bad_disk(named: Machine) -> None:
    """What cannot be read is unknown: nothing is taken for switched on, or for a default."""
    name = named.upgrade()
    plugin = "usr/lib/python3.9/site-packages/dnf-plugins/fs_snapshot.py"
    named.write(named.root, plugin, "# a plugin\n")
    marks = {
        "etc/fs-rollback.conf": "# settings\n",
        "etc/dnf/plugins/fs-snapshot.conf": "# dnf's\n",
    }
    for path, comment in marks.items():
        named.write(named.root, path, "[main]\n" + comment * 1000)  # too large to be inline
    named.destroy()
    with named.image.open("r+b") as file, mmap.mmap(file.fileno(), 0) as image:
        for comment in marks.values():
            image[image.find(comment.encode() * 9)] ^= 1
    run("mount", "-o", "loop,subvolid=5", str(named.image), str(named.top))
    named.boot()
    said = "cannot read /etc/fs-rollback.conf: Input/output error"
    status = fs_rollback(named.root, "status", "--json")
    assert (status.code, status.json["plugin"]) == (1, "unknown")
    for part in (said, "fs-snapshot: cannot read /etc/dnf/plugins/fs-snapshot.conf: Input/output"):
        assert any(part in line for line in status.json["attention"])
    assert "cannot determine whether dnf loads the plugin" in fs_rollback(named.root, "check").out
    fs_rollback(named.root, "rollback", name, "--yes").expect_refusal(said, code=2)
    done(named.root, "create")
