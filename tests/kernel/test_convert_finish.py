# SPDX-License-Identifier: GPL-2.0-or-later
"""`convert finish` after a conversion: what it refuses, each of its tasks, and the new layout."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import btrfsutil
import pytest

from tests import manifest
from tests.kernel.boots import A, B, MakeBoot, make_boot  # noqa: F401 - a fixture
from tests.kernel.commands import on_terminal
from tests.kernel.conversions import command
from tests.kernel.converted import CONF, CONVERTER, ENTRY, KEPT, STATE, Converted
from tests.kernel.ext4_images import Tools, archive
from tests.kernel.machine import run
from tests.kernel.test_check import edit

_TASKS = ["balance", "remove-ext4", "defragment", "layout"]


@pytest.fixture
def converted(make_boot: MakeBoot) -> Iterator[Converted]:  # noqa: F811
    """Give one that has just come up from btrfs."""
    found = Converted(make_boot("top level"))
    found.create()
    yield found
    found.unmount()


def _break_fstab(converted: Converted) -> None:
    edit(converted.root / "etc/fstab", "btrfs", "ext4")


def _lose_the_line(converted: Converted) -> None:
    edit(converted.root / "etc/fstab", " /  ", " /mnt  ")


def _lose_the_kernel(converted: Converted) -> None:
    (converted.root / f"boot/vmlinuz-{A}").unlink()


def _not_converted(converted: Converted) -> None:
    edit(converted.root / STATE / "state.json", '"converted"', '"prepared"')
    (converted.root / STATE / "fstab").write_text("it waits for the conversion\n")


def _never_prepared(converted: Converted) -> None:
    (converted.root / STATE / "state.json").unlink()


def _newer(converted: Converted) -> None:
    edit(converted.root / STATE / "state.json", '"version": 1', '"version": 2')


@pytest.mark.parametrize(
    ("change", "code", "part"),
    [
        (_break_fstab, 3, "/etc/fstab"),
        (_lose_the_line, 3, "/etc/fstab does not say that the root is btrfs"),
        (_lose_the_kernel, 3, f"vmlinuz-{A}"),
        (_not_converted, 3, "no unfinished conversion of this root"),
        (_never_prepared, 3, "no unfinished conversion of this root"),
        (_newer, 1, "format version 2 is newer"),
    ],
)
def test_what_is_wrong_is_refused(
    converted: Converted, change: Callable[[Converted], None], code: int, part: str
) -> None:
    change(converted)
    before = manifest.manifest(converted.root)
    converted.finish("--remove-ext4", "--layout").expect_refusal(part, code=code)
    assert manifest.compare(before, manifest.manifest(converted.root)) == []


def test_errors_of_the_device_are_refused(
    converted: Converted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = shutil.which("btrfs", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    script = f'#!/bin/sh\n[ "$1 $2" = "device stats" ] || exec {real} "$@"\necho bad >&2\nexit 64\n'
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools/btrfs").write_text(script)
    (tmp_path / "tools/btrfs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/tools:{os.environ['PATH']}")
    converted.finish("--remove-ext4").expect_refusal(
        "have had errors: ", "bad", "before you give up"
    )
    assert (converted.root / "ext2_saved").exists()


def test_a_rollback_that_waits_is_refused(converted: Converted) -> None:
    assert converted.command("create", "-m", "a test").code == 0
    assert converted.command("rollback", "latest", "--yes").code == 0
    converted.finish("--remove-ext4").expect_refusal(
        "a rollback is waiting for a reboot", "fs-rollback undo"
    )
    assert converted.command("undo", "--yes").code == 0
    assert converted.finish("--remove-ext4").code == 0


def test_dry_run_and_nobody_there(converted: Converted) -> None:
    assert converted.command("create").code == 0
    before = manifest.manifest(converted.root)
    done = converted.finish("--dry-run")
    assert done.code == 0
    assert [line[2:] for line in done.out.splitlines() if line.startswith("--")] == _TASKS
    data = converted.finish("--dry-run", "--json").json
    assert [task["task"] for task in data["tasks"]] == _TASKS
    assert all(task["sentence"] in done.out for task in data["tasks"])
    assert data["finished"] == []
    named = ("--dry-run", "--balance", "--free-space-tree", "--remove-ext4")
    done = converted.finish(*named)
    assert [line for line in done.out.splitlines() if line.startswith("--")] == [
        "--balance", "--remove-ext4",
    ]  # fmt: skip
    data = converted.finish(*named, "--json").json
    assert [task["task"] for task in data["tasks"]] == ["balance", "remove-ext4"]
    converted.finish().expect_refusal("no terminal to ask on", "--yes", code=2)
    assert manifest.compare(before, manifest.manifest(converted.root)) == []


def test_what_served_the_conversion_goes(converted: Converted) -> None:
    env = converted.root / "boot/grub2/grubenv"
    env.write_bytes(env.read_bytes().replace(b"#" * 24, b"next_entry=A-fs-convert\n", 1)[:1024])
    (converted.root / CONF).write_text("somebody's\n")
    done = converted.finish("--yes")
    assert done.code == 0, done
    assert done.out == "Verified: this machine would boot from btrfs.\n"
    for path in (ENTRY, CONVERTER, KEPT):
        assert not (converted.root / path).exists()
    assert (converted.root / CONF).read_text() == "somebody's\n"
    assert b"next_entry" not in env.read_bytes()
    assert len(env.read_bytes()) == 1024
    assert (converted.root / STATE / "state.json").exists()
    assert converted.finish("--yes").code == 0


def test_status_tells_of_it_until_it_is_done(converted: Converted) -> None:
    def told() -> tuple[bool, bool]:
        said = converted.command("status").out
        known = converted.command("status", "--json").json["unfinished_conversion"]
        return known, "Conversion:    from ext4; 'fs-rollback convert finish' does" in said

    assert told() == (True, True)
    converted.command("convert", "abort").expect_refusal("already", "run --back --device UUID=")
    assert converted.finish("--remove-ext4").code == 0
    converted.command("convert", "abort").expect_refusal("already", "there is no way back")
    converted.leave_top_level()
    assert told() == (True, True)
    assert converted.finish("--layout").code == 0
    converted.start()
    assert told() == (False, False)


def test_status_says_what_it_cannot_read(converted: Converted) -> None:
    _newer(converted)
    said = converted.command("status").out
    assert "Attention: /fs-snapshots/conversion/state.json cannot be read: format version 2" in said


def test_one_task_after_the_other(converted: Converted) -> None:
    data = converted.finish("--remove-ext4", "--json").json
    assert data["finished"] == ["remove-ext4"]
    assert not (converted.root / "ext2_saved").exists()
    # A link that leads out is not followed, and what is only mounted or nested is left alone.
    (converted.root / "out").symlink_to("/nonexistent")
    done = converted.finish("--defragment", "--balance", "--json")
    assert done.code == 0, done
    assert [task["task"] for task in done.json["tasks"]] == ["balance", "defragment", "layout"]
    assert done.json["finished"] == ["balance", "defragment"]
    assert "defragmenting /usr, " in done.err
    assert "/out" not in done.err
    assert done.err.index("balancing data chunks") < done.err.index("balancing the metadata")


def test_the_free_space_tree(converted: Converted) -> None:
    run("umount", str(converted.top))
    run("umount", str(converted.root))
    run("btrfs", "check", "--clear-space-cache", "v2", str(converted.machine.image))
    run("mount", "-o", "loop,nospace_cache", str(converted.machine.image), str(converted.root))
    assert "free-space-tree" in converted.finish("--dry-run").out
    before = converted.machine.read("etc/fstab")
    done = converted.finish("--free-space-tree", "--json")
    assert done.json["finished"] == ["free-space-tree"]
    assert converted.machine.read("etc/fstab") == before.replace(" defaults ", " space_cache=v2 ")
    run("umount", str(converted.root))
    run("mount", "-o", "loop,space_cache=v2", str(converted.machine.image), str(converted.root))
    assert "free-space-tree" not in converted.finish("--dry-run").out


def test_what_is_on_a_device_did_not_come_up() -> None:
    done = command("finish", "--device", "/dev/null", "--remove-ext4")
    assert done.code == 2, done
    assert "this command works only on the running machine, or on --root" in done.err


def test_each_is_asked_for(converted: Converted) -> None:
    converted._hide()
    terminal = on_terminal(converted.root, "convert", "finish")
    for answer in ("n", "y", "", "no"):
        terminal.read_until(r"Do it\? \[y/N\] $")
        assert ("no way back" in terminal.text) is (answer in ("n", "y")), "which these end"
        terminal.text = ""
        terminal.type(f"{answer}\n")
    terminal.read_until("Not done: --balance --defragment --layout. 'fs-rollback convert finish'")
    assert terminal.end() == 0
    assert converted.subvolumes() == []
    done = converted.finish("--remove-ext4", "--json")
    assert (done.code, done.json["finished"]) == (0, [])
    assert done.err == "fs-rollback: --remove-ext4: there is nothing left to do\n"


def test_a_rollback_that_is_refused(converted: Converted) -> None:
    """The first phase is a rollback, with all that is refused for one; it leaves no snapshot."""
    number = btrfsutil.subvolume_id(str(converted.root / "var/lib/machines"))
    line = f"UUID={converted.machine.uuid} /var/lib/machines btrfs subvolid={number} 0 0\n"
    with (converted.root / "etc/fstab").open("a") as file:
        file.write(line)
    before = converted.machine.snapshots()
    converted.finish("--layout", "--json").expect_refusal(
        "mounts a subvolume inside the root by its ID"
    )
    assert converted.machine.snapshots() == before
    assert converted.subvolumes() == ["ext2_saved"]


def test_the_first_phase_can_be_undone(converted: Converted) -> None:
    before = converted.seen()
    done = converted.finish("--layout")
    assert done.code == 0, done
    assert "Now: reboot" in done.err
    converted.finish("--layout").expect_refusal("a rollback is waiting for a reboot")
    assert converted.command("undo", "--yes").code == 0
    converted.start()
    assert converted.command("status").out.count("5") >= 1
    before["boot"] = converted.seen()["boot"]  # tidied
    converted.expect_whole(before)
    assert converted.finish("--dry-run").out.count("--layout") == 1


def test_both_phases(converted: Converted) -> None:
    assert converted.finish("--remove-ext4").code == 0
    before = converted.seen()
    converted.leave_top_level()
    assert converted.finish("--dry-run").out.count("--layout") == 1
    converted.expect_whole(before)
    done = converted.finish("--layout", "--json")
    assert done.code == 0, done
    assert done.json["finished"] == ["layout"]
    converted.expect_whole(before)
    converted.expect_named()
    # Nothing is left that only this could do.
    converted.finish("--balance").expect_refusal(
        "no unfinished conversion of this root",
        "btrfs balance start -m /",
        "btrfs filesystem defrag",
    )
    assert not (converted.top / STATE).exists()


def _use_it(converted: Converted) -> None:
    """Take a snapshot, change something, go back, and take that back."""
    name = converted.machine.upgrade()
    assert name in [row["name"] for row in converted.command("list", "--json").json["snapshots"]]
    assert converted.command("check", "--json").json["verdict"] != "broken"
    done = converted.command("rollback", name, "--yes")
    assert done.code == 0, done
    converted.start()
    assert converted.machine.read("usr/bin/app") == "version 1\n"
    assert converted.machine.read("home/user/letter") == "letter 1\n"
    assert converted.command("settle", "--at-boot").code == 0
    replaced = next(
        row["name"]
        for row in converted.command("list", "--json").json["snapshots"]
        if row["kind"] == "replaced"
    )
    assert converted.command("rollback", replaced, "--yes").code == 0
    assert converted.command("undo", "--yes").code == 0
    converted.start()
    assert converted.machine.read("usr/bin/app") == "version 1\n"


def test_the_named_layout_is_like_any(converted: Converted) -> None:
    converted.leave_top_level()
    converted.give_names()
    converted.start()
    check = converted.command("check", "--json").json
    assert "broken" not in {link["grade"] for link in check["links"]}, check
    status = converted.command("status")
    assert "subvol=root" in status.out
    _use_it(converted)


def test_a_snapshot_from_before_the_names(converted: Converted) -> None:
    """It has an old /home and an old /boot of its own: the present ones stay in sight."""
    converted.leave_top_level()
    converted.give_names()
    converted.start()
    mounts = converted.machine.read("etc/fstab").splitlines()[2:]
    converted.machine.use(3)
    done = converted.command("rollback", "latest", "--yes", "--plan")
    assert done.code == 0, done
    assert "in the new root, to keep these mounted: /home, /boot." in done.out
    converted.start()
    assert converted.machine.read("home/user/letter") == "user's 3\n"
    assert converted.machine.read("etc/fstab").splitlines()[-2:] == mounts
    check = converted.command("check", "--json").json
    assert "broken" not in {link["grade"] for link in check["links"]}, check
    assert converted.command("undo", "--yes", "--to-replaced").code in (0, 3)


@pytest.mark.parametrize("phase", [0, 1])
def test_a_converted_machine_is_like_any(converted: Converted, phase: int) -> None:
    """With what serves the conversion in the store and in the menu."""
    if phase:
        converted.leave_top_level()
    listed = converted.command("list", "--json").json
    assert len(listed["snapshots"]) == 2 * phase
    check = converted.command("check", "--json").json
    assert "broken" not in {link["grade"] for link in check["links"]}, check
    if not phase:
        assert converted.command("status").code in (0, 1)
        _use_it(converted)
        assert converted.finish("--dry-run").code == 0


@pytest.mark.parametrize(
    ("names", "lister", "code"),
    [
        (["init"], 'cpio --list --quiet < "$1"', 3),
        (["init", "usr/lib/modules/x/btrfs.ko"], 'cpio --list --quiet < "$1"', 0),
        (["init"], "exit 1", 0),
    ],
    ids=["without", "with", "unknown"],
)
def test_the_initramfs_of_the_default_entry(
    converted: Converted, names: list[str], lister: str, code: int, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    (converted.root / f"boot/initramfs-{A}.img").write_bytes(archive(names))
    Tools(progs="", lister=lister).environment(tmp_path / "tools")
    monkeypatch.setenv("PATH", f"{tmp_path}/tools:{os.environ['PATH']}")
    done = converted.finish("--remove-ext4")
    assert (converted.root / "ext2_saved").exists() == (code == 3)
    if code:
        done.expect_refusal(
            f"the initramfs of the default entry has no btrfs: /boot/initramfs-{A}.img",
            "dracut --force",
        )
    else:
        assert done.code == 0, done
