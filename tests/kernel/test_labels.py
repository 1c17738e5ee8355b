# SPDX-License-Identifier: GPL-2.0-or-later
"""Labels of SELinux, as a rescue system without it leaves them: the kernel here gives none.

What a policy says of paths is stood in for by a few prefixes. A machine that runs with SELinux is
in tests/vm/test_selinux.py.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

import btrfsutil
import pytest

from fs_rollback.system.linux import durable, files
from tests.kernel.boots import A, B, MakeBoot, make_boot
from tests.kernel.commands import done, fs_rollback
from tests.kernel.conftest import MakeMachine
from tests.kernel.machine import Machine

__all__ = ["make_boot"]  # the fixture of the tests below

_LABEL = "security.selinux"
_TYPES = {
    "": "root_t", "boot": "boot_t", "etc": "etc_t", "home": "user_home_t", "root": "admin_home_t",
    "usr": "usr_t", "usr/bin": "bin_t", "var": "var_t", "var/lib": "var_lib_t",
    "var/lib/machines": "machined_var_lib_t", "var/log": "var_log_t",
}  # fmt: skip


def context(kind: str) -> bytes:
    return f"system_u:object_r:{kind}:s0\0".encode()


def label_of(path: Path) -> Optional[bytes]:
    has_one = _LABEL in os.listxattr(path, follow_symlinks=False)
    return os.getxattr(path, _LABEL, follow_symlinks=False) if has_one else None


def set_label(path: Path, kind: str) -> None:
    os.setxattr(path, _LABEL, context(kind), follow_symlinks=False)


def wanted(path: str) -> str:
    """Return the type that a path from the root has to have."""
    above = (part for part in _TYPES if not part or f"{path}/".startswith(f"{part}/"))
    return _TYPES[max(above, key=len)]


def paths(tree: Path) -> Iterator[tuple[Path, str]]:
    """Give all that is in a tree, and the tree, each with its path from there."""
    for directory, below, names in os.walk(tree):
        below[:] = [name for name in below if name != "fs-snapshots"]
        for place in (Path(directory), *(Path(directory, name) for name in names)):
            inside = str(place.relative_to(tree))
            yield place, "" if inside == "." else inside


def relabel(tree: Path) -> None:
    """Do what 'restorecon -R /' does, in what is read-only too."""
    sealed = str(tree / "var/lib/machines/inner")
    btrfsutil.set_subvolume_read_only(sealed, False)
    for place, path in paths(tree):
        set_label(place, wanted(path))
    btrfsutil.set_subvolume_read_only(sealed, True)


def wrong(tree: Path, *, inside: str = "") -> dict[str, Optional[bytes]]:
    """Return what 'restorecon -Rn' would change, by path; `tree` is at `inside` in its root."""
    found = {str(Path(inside, path)): label_of(place) for place, path in paths(tree)}
    return {p: label for p, label in found.items() if label != context(wanted(p.lstrip(".")))}


def enforce(tree: Path, mode: str = "enforcing", policy: str = "targeted") -> None:
    (tree / "etc/selinux").mkdir(exist_ok=True)
    text = f"# a comment\nSELINUX={mode}\nSELINUXTYPE={policy}\n"
    (tree / "etc/selinux/config").write_text(text)


@pytest.fixture
def labelled(named: Machine) -> Machine:
    """Give a machine on which all has its label."""
    enforce(named.root)
    relabel(named.root)
    return named


@pytest.mark.parametrize("kind", ["ext4", "subvolume", "boot/efi"])
def test_there_and_back_with_a_kernel_put_back(make_boot: MakeBoot, kind: str) -> None:
    boot = make_boot(kind)
    machine = boot.machine
    enforce(boot.root)
    relabel(boot.root)
    set_label(machine.next_root() / boot.kind.point, "boot_t")  # what is mounted hides it
    brought = [boot.entry_of(B), *(boot.place / name for name in boot.files_of(B))]

    def install() -> None:
        boot.install_b()
        for path in (*brought, *{path.parent for path in brought}):
            set_label(path, "boot_t")
        modules = boot.root / "usr/lib/modules" / B
        for path in (modules, *modules.iterdir()):
            set_label(path, "usr_t")

    name, problems = boot.transact(install)
    assert problems == ()
    assert boot.ours(), "an entry of the menu is among what is looked at"
    copy = machine.top / "fs-snapshots" / name.replace("yum_", "try_")
    assert wrong(boot.root) == wrong(copy) == {}
    boot.remove_kernel(A)
    if kind == "boot/efi":  # with all that was in it
        boot.place.joinpath("abc", A).rmdir()
    machine.use(1)
    ended = done(boot.root, "rollback", name, "--yes")
    assert "SELinux" not in ended.out + ended.err
    assert boot.boots() == A, "put back"
    assert wrong(machine.next_root()) == wrong(boot.place, inside=boot.kind.point) == {}
    for command in (
        ("settle", "--at-boot"),
        ("undo", "--yes", "--to-replaced"),
        ("settle", "--at-boot"),
    ):
        boot.reboot()
        done(boot.root, *command)
        assert wrong(machine.next_root()) == wrong(boot.place, inside=boot.kind.point) == {}


def test_what_is_restored(labelled: Machine) -> None:
    file = labelled.root / "etc/deep/down/file"
    file.parent.mkdir(parents=True)
    file.write_text("text\n")
    relabel(labelled.root)
    name = labelled.take()
    file.write_text("changed\n")
    done(labelled.root, "restore", "--yes", name, "/etc/deep/down/file")
    assert len(list(file.parent.iterdir())) == 2, "what was there is kept beside it"
    assert wrong(labelled.root) == {}
    for path in file.parent.iterdir():
        path.unlink()
    for directory in (file.parent, file.parent.parent):
        directory.rmdir()
    done(labelled.root, "restore", "--yes", name, "/etc/deep/down/file")
    assert wrong(labelled.root) == {}
    aside = labelled.root / "root/aside"
    aside.mkdir()
    done(labelled.root, "restore", "--aside", str(aside), name, "/etc/app.conf")
    assert label_of(aside / "app.conf") == context("etc_t"), "as cp(1) copies all attributes"


def test_a_directory_in_the_place_of_a_subvolume_that_is_gone(labelled: Machine) -> None:
    gone = labelled.root / "var/lib/gone"
    btrfsutil.create_subvolume(str(gone))
    set_label(gone, "gone_t")
    name = labelled.take()
    btrfsutil.delete_subvolume(str(gone))
    labelled.roll_back(name)
    made = labelled.next_root() / "var/lib/gone"
    assert (made.stat().st_ino, label_of(made)) == (made.stat().st_ino, context("var_lib_t"))
    assert wrong(labelled.next_root()) == {}


def test_a_label_that_says_nothing_is_not_copied(labelled: Machine) -> None:
    """With SELinux on, what has no label is seen with one, and so is what has an unknown one."""
    nothing, unknown = (labelled.root / "root" / name for name in ("nothing", "unknown"))
    for path, kind in ((nothing, "unlabeled_t"), (unknown, "removed_t")):
        path.write_text("text\n")
        set_label(path, kind)
    name = labelled.take()
    for path in (nothing, unknown):
        path.write_text("text of today\n")
    labelled.roll_back(name)
    kept = labelled.next_root() / "root"
    assert (kept / "nothing").read_text() == (kept / "unknown").read_text() == "text of today\n"
    assert label_of(kept / "unknown") == context("removed_t")
    nothing.unlink()
    labelled.take_back()
    done(labelled.root, "restore", "--yes", name, "/root/nothing")
    assert label_of(nothing) is None


@pytest.mark.parametrize("old", ["old_t", None])
def test_a_file_that_is_written(tmp_path: Path, named: Machine, old: Optional[str]) -> None:
    for place, kind in ((named.root / "etc", "etc_t"), (named.root / "srv", None)):
        place.mkdir(exist_ok=True)
        if kind:
            set_label(place, kind)
        (place / "there").write_text("old\n")
        if old:
            set_label(place / "there", old)
        expected = context(kind) if kind else None
        with files.opened(str(place)) as directory:
            for name in ("there", "new"):
                durable.write_text(directory, name, "new\n")
            durable.write_for_next_commit(directory, "next", "new\n")
        assert label_of(place / "there") == (context(old) if old else expected)
        assert label_of(place / "new") == label_of(place / "next") == expected


def _relabels(machine: Machine, name: str) -> Optional[str]:
    """Return what a rollback says of labels, None if it does not label."""
    plan = done(machine.root, "rollback", name, "--dry-run", "--json").json
    found = [step["why"] for step in plan["steps"] if step["step"] == "Relabel"]
    said = [warning for warning in plan["warnings"] if "SELinux" in warning]
    assert [bool(found)] == [bool(said)]
    assert not found or found[0] in said[0]
    return found[0] if found else None


def _findings(machine: Machine) -> list[dict[str, Any]]:
    links = fs_rollback(machine.root, "check", "--json").json["links"]
    return [link for link in links if link["code"].startswith("selinux.")]


def test_a_snapshot_from_before_all_was_labelled(make_machine: MakeMachine) -> None:
    machine = make_machine("top-level")
    enforce(machine.root)
    (finding,) = _findings(machine)
    assert (finding["code"], finding["subject"]) == ("selinux.unlabeled", "/")
    for word in (".autorelabel", "enforcing=0"):
        assert word in finding["advice"]
    (machine.root / ".autorelabel").touch()
    assert _findings(machine) == [], "the next boot does it"
    (machine.root / ".autorelabel").unlink()
    name = machine.upgrade()
    relabel(machine.root)
    later = machine.take()
    assert _findings(machine) == []
    assert _relabels(machine, later) is None
    why = _relabels(machine, name)
    assert why is not None
    assert why.startswith("/ ")
    said = done(machine.root, "rollback", name, "--yes")
    assert "labels all its files for SELinux" in said.out + said.err
    assert (machine.next_root() / ".autorelabel").read_text() == ""
    assert not (machine.root / ".autorelabel").exists()
    assert _findings(machine) == []
    done(machine.root, "undo", "--yes")
    assert not (machine.next_root() / ".autorelabel").exists()


def test_the_copy_that_the_menu_boots(make_boot: MakeBoot) -> None:
    boot = make_boot("ext4")
    enforce(boot.root)
    boot.transact()
    relabel(boot.root)
    boot.transact()
    store = boot.machine.top / "fs-snapshots"
    copies = sorted(store.glob("try_*"))
    assert [(copy / ".autorelabel").exists() for copy in copies] == [True, False]


@pytest.mark.parametrize(
    ("path", "kind", "is_wrong"),
    [
        ("etc", "default_t", True),
        ("usr/bin", "file_t", True),
        ("usr", "unlabeled_t", True),
        ("usr/bin", "shell_exec_t", False),
        ("etc/app.conf", "default_t", False),
        ("srv", "default_t", False),
    ],
)
def test_what_no_policy_says_of_a_root(
    labelled: Machine, path: str, kind: str, is_wrong: bool
) -> None:
    (labelled.root / path).mkdir(exist_ok=True) if path == "srv" else None
    set_label(labelled.root / path, kind)
    assert [row["subject"] for row in _findings(labelled)] == [f"/{path}"] * is_wrong
    assert bool(_relabels(labelled, labelled.take())) == is_wrong


@pytest.mark.parametrize(
    ("then", "now", "why"),
    [
        (("enforcing", "targeted"), ("permissive", "targeted"), None),
        (
            ("enforcing", "targeted"),
            ("disabled", "targeted"),
            "SELinux is off now, and uses the policy t",
        ),
        (
            ("Permissive", "mls"),
            ("enforcing", "targeted"),
            "targeted now, and uses the policy mls",
        ),
        (("disabled", "targeted"), ("enforcing", "targeted"), None),
    ],
)
def test_kept_paths_of_another_policy(
    labelled: Machine, then: tuple[str, str], now: tuple[str, str], why: Optional[str]
) -> None:
    enforce(labelled.root, *then)
    name = labelled.take()
    enforce(labelled.root, *now)
    said = _relabels(labelled, name)
    assert said is None if why is None else why in str(said)


def test_a_machine_without_it(named: Machine) -> None:
    name = named.take()
    assert (_relabels(named, name), _findings(named)) == (None, [])
    labelled_once = named.root / "etc"
    set_label(labelled_once, "default_t")
    assert (_relabels(named, named.take()), _findings(named)) == (None, [])
