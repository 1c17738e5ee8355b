# SPDX-License-Identifier: GPL-2.0-or-later
"""`convert prepare` and `convert abort` on a mounted ext4 root: what is changed, and taken back."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from fs_rollback.core.snapshots.record import PackageChange, Transaction
from fs_rollback.system.hooks import transaction
from tests.kernel.commands import Done, fs_rollback, on_terminal
from tests.kernel.ext4_images import NEW, OLD, UUID, write
from tests.kernel.ext4_prepared import (
    EDITED,
    ENTRY,
    STATE,
    Ext4Root,
    about,
)
from tests.kernel.machine import run

_YES = ("--yes", "--have-backup")
_LOOKING = (("status",), ("check",), ("list",), ("create",), ("convert", "finish", "--yes"))
_PLAIN = {
    "fs-snapshots": "new",
    "fs-snapshots/conversion": "new",
    "fs-snapshots/conversion/fstab": "new",
    "fs-snapshots/conversion/rescue.txt": "new",
    STATE: "new",
    "etc/dracut.conf.d/90-fs-rollback.conf": "new",
    ENTRY: "other",
    "etc/kernel/cmdline": "other",
    "etc/default/grub": "other",
    f"fs-snapshots/conversion/boot_-initramfs-{OLD}.img.sha256": "new",
    f"fs-snapshots/conversion/boot_-initramfs-{NEW}.img.sha256": "new",
    f"boot/initramfs-{OLD}.img": "other",
    f"boot/initramfs-{OLD}.img.before-btrfs": "new",
    f"boot/initramfs-{NEW}.img": "other",
    f"boot/initramfs-{NEW}.img.before-btrfs": "new",
}
_AT_NEXT_BOOT = {
    **_PLAIN,
    "boot/initramfs-fs-rollback-convert.img": "new",
    "boot/loader/entries/A-fs-convert.conf": "new",
    "boot/grub2/grubenv": "other",
}


def _prepare(machine: Ext4Root, *words: str) -> Done:
    return fs_rollback(machine.root, "convert", "prepare", *(words or _YES))


def _abort(machine: Ext4Root, *words: str) -> Done:
    return fs_rollback(machine.root, "convert", "abort", *(words or ("--yes",)))


def test_there_and_back(ext4_root: Ext4Root) -> None:
    machine = ext4_root
    kept = {path: about(machine.root / path) for path in EDITED[:3]}
    images = {v: (machine.root / f"boot/initramfs-{v}.img").read_bytes() for v in (OLD, NEW)}
    done = _prepare(machine)
    assert done.code == 0, done
    assert machine.changed() == _PLAIN
    assert {path: about(machine.root / path) for path in EDITED[:3]} == kept
    options = f'root=UUID={UUID}  ro quiet rootflags=noatime a="b c"'
    assert machine.read(ENTRY).splitlines()[-1] == f"options {options}"
    assert machine.read("etc/kernel/cmdline") == f"{options}\n"
    assert (machine.root / "etc/default/grub").read_bytes() == (
        b"# \xff\n GRUB_CMDLINE_LINUX='rhgb  '\nGRUB_TIMEOUT=5"
    )
    assert machine.read("fs-snapshots/conversion/fstab") == (
        f"# made by a test\nUUID={UUID} / btrfs defaults 1 0\n"
    )
    for version, before in images.items():
        image = machine.root / f"boot/initramfs-{version}.img"
        assert Path(f"{image}.before-btrfs").read_bytes() == before
        assert image.read_bytes() == (machine.tools / f"archives/usual-{version}").read_bytes()
        assert about(image) == about(Path(f"{image}.before-btrfs"))
    assert (machine.root / "fs-snapshots").stat().st_mode & 0o7777 == 0o700
    sheet = machine.read("fs-snapshots/conversion/rescue.txt")
    assert sheet in done.out
    assert f"convert run --device UUID={UUID}" in sheet
    assert f"/boot/initramfs-{OLD}.img.before-btrfs" in sheet
    back = _abort(machine)
    assert back.code == 0, back
    assert back.out.endswith("Undone: the machine is as before.\n")
    machine.expect_as_before(*EDITED)


def test_at_next_boot(ext4_root: Ext4Root) -> None:
    machine = ext4_root
    done = _prepare(machine, "--at-next-boot", *_YES)
    assert done.code == 0, done
    assert done.out.endswith("Now reboot: that boot converts the root, then continues.\n")
    assert machine.changed() == _AT_NEXT_BOOT
    calls = machine.dracut_calls()
    assert [("--add fs-rollback" in call, call.split()[-1]) for call in calls] == [
        (False, OLD), (False, NEW), (True, OLD),
    ]  # fmt: skip
    values = dict(
        line.split(maxsplit=1)
        for line in machine.read("boot/loader/entries/A-fs-convert.conf").splitlines()
    )
    assert values["linux"] == f"/boot/vmlinuz-{OLD}"
    assert values["initrd"] == "/boot/initramfs-fs-rollback-convert.img"
    words = values["options"].split()
    assert words[0] == f"root=UUID={UUID}"
    assert {"fsck.mode=skip", f"fs-rollback.convert=UUID={UUID}"} < {*words}
    assert "quiet" not in words
    grubenv = machine.read("boot/grub2/grubenv")
    assert len(grubenv) == 1024
    assert grubenv.splitlines()[1:3] == [f"saved_entry=abc-{OLD}", "next_entry=A-fs-convert"]
    back = _abort(machine)
    assert back.code == 0, back
    machine.expect_as_before(*EDITED)


def test_dry_runs_change_nothing(ext4_root: Ext4Root) -> None:
    machine = ext4_root
    done = _prepare(machine, "--at-next-boot", "--dry-run")
    assert done.code == 0, done
    assert done.out.endswith("This was a dry run: nothing was changed.\n")
    data = _prepare(machine, "--at-next-boot", "--dry-run", "--json").json
    assert machine.changed() == {}
    assert data["done"] is False
    assert [step["sentence"] for step in data["steps"]] == [
        line.partition(". ")[2] for line in done.out.splitlines() if line[:4].strip(" .").isdigit()
    ]
    assert [step["step"] for step in data["steps"]] == [
        *["WriteFile"] * 5, *["RebuildImage"] * 2, "MakeConverter", "WriteFile", "BootOnce",
    ]  # fmt: skip
    written = {step["path"] for step in data["steps"] if "path" in step}
    done_data = _prepare(machine, "--at-next-boot", "--json", *_YES).json
    assert done_data["done"] is True
    assert done_data["next_boot"] is None
    assert done_data["sheet"] == machine.read("fs-snapshots/conversion/rescue.txt")
    assert done_data["steps"] == data["steps"]
    unplanned = {
        p
        for p in machine.changed()
        if p not in written and not p.endswith((".before-btrfs", ".sha256"))
    }
    assert unplanned == {
        "fs-snapshots", "fs-snapshots/conversion", "fs-snapshots/conversion/rescue.txt", STATE,
        "boot/grub2/grubenv",
    }  # fmt: skip
    prepared = machine.changed()
    back = _abort(machine, "--dry-run", "--json").json
    assert data.pop("warnings") == [], "of what nothing is said against"
    assert back == {**data, "steps": data["steps"][::-1]}
    assert machine.changed() == prepared
    assert _abort(machine, "--json", "--yes").json == {**back, "done": True}
    assert machine.changed().keys() <= {*EDITED}


def test_twice_and_abort_twice(ext4_root: Ext4Root) -> None:
    machine = ext4_root
    assert _abort(machine).sentence == "nothing is prepared here"
    assert _prepare(machine).code == 0
    prepared = machine.changed()
    _prepare(machine).expect_refusal(
        "this machine is already prepared", "fs-rollback convert abort"
    )
    assert machine.changed() == prepared
    assert _abort(machine).code == 0
    _abort(machine).expect_refusal("nothing is prepared here")
    assert _prepare(machine).code == 0
    assert machine.changed() == prepared


def test_the_other_commands_see_an_ext4(ext4_root: Ext4Root) -> None:
    """The directory of the conversion is no store, and the plugin lets dnf go on."""
    before = [fs_rollback(ext4_root.root, *words) for words in _LOOKING]
    ext4_root.prepare()
    prepared = ext4_root.manifest()
    assert [fs_rollback(ext4_root.root, *words) for words in _LOOKING] == before
    assert {done.code for done in before} == {3}
    row = PackageChange("upgrade", "app", "noarch", "1-1", "2-1")
    taken = transaction.before(
        Transaction("dnf4", ("dnf", "upgrade"), "admin", (row,)), str(ext4_root.root)
    )
    assert not isinstance(taken, transaction.Taken), taken
    assert ext4_root.manifest() == prepared


def test_a_point_that_refuses(ext4_root: Ext4Root) -> None:
    machine = ext4_root
    fstab = machine.read("etc/fstab")
    write(machine.root, "etc/fstab", fstab + "/srv/swap none swap defaults 0 0\n")
    write(machine.root, "srv/swap", "")
    before = machine.changed()
    _prepare(machine).expect_refusal("swap files: there is a swap file on it: /srv/swap")
    assert machine.changed() == before


@pytest.mark.parametrize("options", ["remount,ro", "remount,bind,ro"])
def test_what_can_only_be_read(ext4_root: Ext4Root, options: str) -> None:
    machine = ext4_root
    again = options.replace("ro", "rw")
    run("mount", "-o", options, str(machine.root))
    for done in (_prepare(machine), _prepare(machine, "--dry-run"), _abort(machine)):
        done.expect_refusal("the filesystem on /dev/loop", " is read-only", "'dmesg' may say why")
    run("mount", "-o", again, str(machine.root))
    assert machine.changed() == {}
    assert _prepare(machine).code == 0
    prepared = machine.changed()
    run("mount", "-o", options, str(machine.root))
    _abort(machine).expect_refusal(" is read-only")
    run("mount", "-o", again, str(machine.root))
    assert machine.changed() == prepared


def test_the_backup_is_answered_for(ext4_root: Ext4Root) -> None:
    machine = ext4_root
    done = _prepare(machine, "--yes")
    assert done.code == 2
    assert "--have-backup" in done.err
    for answer in ("yes", "I have not", ""):
        terminal = on_terminal(machine.root, "convert", "prepare", "--yes")
        terminal.read_until("Type 'I have': ")
        terminal.type(f"{answer}\n")
        assert terminal.end() == 3
        assert "no conversion without a backup" in terminal.text
    assert machine.changed() == {}
    terminal = on_terminal(machine.root, "convert", "prepare")
    terminal.read_until("Type 'I have': ")
    terminal.type("i have\n")
    terminal.read_until(r"Prepare the conversion\? \[y/N\] ")
    terminal.type("\n")
    assert terminal.end() == 1
    assert terminal.text.endswith("Nothing was changed.\n")
    assert machine.changed() == {}
    terminal = on_terminal(machine.root, "convert", "prepare")
    terminal.read_until("Type 'I have': ")
    terminal.type("'I have'\n")
    terminal.read_until(r"Prepare the conversion\? \[y/N\] ")
    terminal.type("y\n")
    assert terminal.end() == 0
    assert "step 7 of 7: " in terminal.text
    assert machine.changed() == _PLAIN
    terminal = on_terminal(machine.root, "convert", "abort")
    terminal.read_until(r"Undo the preparation\? \[y/N\] ")
    terminal.type("n\n")
    assert terminal.end() == 1
    assert machine.changed() == _PLAIN


def test_what_somebody_has_written_stays(ext4_root: Ext4Root) -> None:
    machine = ext4_root
    assert _prepare(machine).code == 0
    written = machine.read(ENTRY) + "# mine\n"
    write(machine.root, ENTRY, written)
    write(machine.root, "etc/dracut.conf.d/90-fs-rollback.conf", "# mine, too\n")
    assert _abort(machine).code == 0
    assert machine.read(ENTRY) == written
    assert machine.read("etc/dracut.conf.d/90-fs-rollback.conf") == "# mine, too\n"
    for path in (ENTRY, "etc/dracut.conf.d/90-fs-rollback.conf"):
        (machine.root / path).unlink()
        machine.before.pop(path, None)
    machine.expect_as_before(*EDITED)


def test_an_initramfs_that_somebody_has_made_since_stays(ext4_root: Ext4Root) -> None:
    machine = ext4_root
    image = machine.root / f"boot/initramfs-{OLD}.img"
    ext4_root.prepare()
    since = image.with_suffix(".tmp")
    since.write_bytes(b"of a kernel update")
    since.replace(image)
    os.utime(image, (0, 0))  # when it was made need not be true
    assert _abort(machine).code == 0
    assert image.read_bytes() == b"of a kernel update"
    machine.before.pop(f"boot/initramfs-{OLD}.img")
    image.unlink()
    machine.expect_as_before(*EDITED)


def test_a_link_in_the_place_of_an_initramfs_stays(ext4_root: Ext4Root) -> None:
    machine = ext4_root
    image = machine.root / f"boot/initramfs-{OLD}.img"
    ext4_root.prepare()
    image.unlink()
    image.symlink_to("elsewhere")
    assert _abort(machine).code == 0
    assert os.readlink(image) == "elsewhere"
    assert not (machine.root / f"boot/initramfs-{OLD}.img.before-btrfs").is_symlink()


def test_the_initramfs_of_a_removed_kernel_stays_away(ext4_root: Ext4Root) -> None:
    """What kernel-install(8) leaves of its modules counts for nothing."""
    machine = ext4_root
    ext4_root.prepare()
    gone = (
        f"boot/initramfs-{NEW}.img", f"boot/vmlinuz-{NEW}", f"boot/loader/entries/abc-{NEW}.conf",
        f"usr/lib/modules/{NEW}/modules.dep", f"usr/lib/modules/{NEW}/modules.builtin",
    )  # fmt: skip
    for path in gone:
        (machine.root / path).unlink()
        del machine.before[path]
    assert _abort(machine).code == 0
    machine.expect_as_before(*EDITED)


def test_a_kernel_that_is_there_gets_its_initramfs_again(ext4_root: Ext4Root) -> None:
    machine = ext4_root
    ext4_root.prepare()
    (machine.root / f"boot/initramfs-{NEW}.img").unlink()
    assert _abort(machine).code == 0
    machine.expect_as_before(*EDITED)


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"version": 2}, ["format version 2 is newer", "update"]),
        ({"steps": [{"step": "Explode"}]}, ["unknown step Explode", "It is damaged", "remove /fs"]),
        ({"steps": [{"step": "WriteFile", "path": "../x", "before": None, "after": "", "why": ""}]},
         ["ValueError: path is '../x'"]),
        ({"steps": [{"step": "MakeConverter", "version": 1, "path": "x"}]},
         ["TypeError: version is 1"]),
        ({"stage": "done"}, ["'done' is not a valid Stage"]),
        ({"generation": 1e999}, ["OverflowError"]),
        ({"steps": [{"step": "MakeConverter", "version": "1", "path": "\0"}]}, ["ValueError"]),
        ({"steps": [{"step": "MakeConverter", "version": "1", "path": "\ud800"}]}, ["UnicodeEnc"]),
        (None, ["JSONDecodeError", "It is damaged. Clean up by hand"]),
    ],
    ids=str,
)  # fmt: skip
def test_a_state_that_cannot_be_read(
    ext4_root: Ext4Root,
    change: dict[str, object] | None,
    parts: list[str],
) -> None:
    machine = ext4_root
    machine.prepare()
    data = json.loads(machine.read(STATE))
    write(machine.root, STATE, "{" if change is None else json.dumps({**data, **change}))
    before = machine.manifest()
    for command in (_abort, _prepare):
        command(machine).expect_refusal(f"/{STATE} cannot be read: ", *parts, code=1)
    assert machine.manifest() == before


def test_a_damaged_state_is_removed_by_hand(ext4_root: Ext4Root) -> None:
    """As the hint says; then it can be prepared anew."""
    machine = ext4_root
    machine.prepare()
    write(machine.root, STATE, "")
    _abort(machine).expect_refusal("cannot be read: JSONDecodeError", "by hand", code=1)
    boot = machine.root / "boot"
    for path in boot.glob("*.before-btrfs"):
        path.rename(boot / path.name[: -len(".before-btrfs")])
    (boot / "loader/entries/A-fs-convert.conf").unlink()
    (boot / "initramfs-fs-rollback-convert.img").unlink()
    (machine.root / "etc/dracut.conf.d/90-fs-rollback.conf").unlink()
    run("rm", "-r", str(machine.root / "fs-snapshots/conversion"))
    (machine.root / "fs-snapshots").rmdir()
    assert machine.changed() == dict.fromkeys(EDITED, "other"), "what starts either filesystem"
    assert _prepare(machine).code == 0
