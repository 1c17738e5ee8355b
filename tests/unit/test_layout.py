# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from typing import Optional

import pytest

from fs_rollback.core.boot.layout import (
    Kind,
    Layout,
    Statement,
    decide,
    from_boot_entry,
    from_command_line,
    from_fstab,
)
from fs_rollback.core.formats import bls, fstab
from fs_rollback.errors import RefusedError
from tests.unit.samples import TOP, subvolume

ROOT = subvolume(256, "root")
HOME = subvolume(257, "home")
FEDORA = (TOP, ROOT, HOME)


def OURS(spec: str) -> Optional[bool]:  # noqa: N802
    """Know one filesystem and one other, as a machine that does not run."""
    return {"UUID=5b5b": True, "/dev/vda3": True, "/dev/vda9": None}.get(spec, False)


def _command_line(options: str, where: str = "/proc/cmdline") -> Statement:
    found = from_command_line(where, f"BOOT_IMAGE=/vmlinuz root=UUID=5b5b ro {options}", OURS)
    assert found is not None
    return found


def _entry(options: str) -> Statement:
    text = f"title Linux\nlinux /vmlinuz\noptions root=UUID=5b5b ro {options} $tuned_params\n"
    found = from_boot_entry(bls.parse("/boot/loader/entries/a.conf", text), OURS)
    assert found is not None
    return found


def _fstab(options: str) -> Statement:
    text = f"# a comment\nUUID=5b5b /home btrfs subvol=home 0 0\nUUID=5b5b / btrfs {options} 0 0\n"
    found = from_fstab("/etc/fstab", fstab.parse(text))
    assert found is not None
    return found


def _refusal(*statements: Statement, default_id: int = 5, root_id: int = 256) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        decide(statements, FEDORA, default_id, root_id)
    assert caught.value.exit_code == 3
    assert caught.value.hint
    return caught.value


def test_fedora() -> None:
    statements = [
        _command_line("rootflags=subvol=root rhgb quiet"),
        _entry("rootflags=subvol=root rhgb quiet"),
        _fstab("subvol=root,compress=zstd:1"),
    ]
    found = decide(statements, FEDORA, 5, 256)
    assert found == Layout(Kind.NAMED, ROOT, tuple(statements))
    assert not found.in_top_level
    assert found.describe() == "named: subvol=root"


def test_oracle_linux_names_what_is_the_default_too() -> None:
    flags = "rootflags=subvol=root"
    statements = [_command_line(flags), _entry(flags), _fstab("subvol=root")]
    found = decide(statements, FEDORA, 256, 256)
    assert (found.kind, found.root) == (Kind.NAMED, ROOT)


def test_opensuse_style() -> None:
    deep = subvolume(270, "@/.snapshots/1/snapshot")
    statements = [_command_line("splash=silent"), _entry("quiet"), _fstab("defaults")]
    found = decide(statements, (TOP, subvolume(256, "@"), deep), 270, 270)
    assert (found.kind, found.root) == (Kind.DEFAULT, deep)
    assert found.describe() == "default subvolume: @/.snapshots/1/snapshot (ID 270)"


def test_the_story_of_2011() -> None:
    # A converted ext4: everything lies in the top level, and nothing names it.
    found = decide([_command_line(""), _fstab("defaults")], (TOP,), 5, 5)
    assert (found.kind, found.root) == (Kind.DEFAULT, TOP)
    assert found.in_top_level
    assert found.describe() == "default subvolume: the top level (ID 5)"


def test_debian_and_ubuntu() -> None:
    for name in ("@rootfs", "@"):
        root = subvolume(256, name)
        flags = f"rootflags=subvol={name}"
        found = decide([_command_line(flags), _fstab(f"subvol=/{name}")], (TOP, root), 5, 256)
        assert (found.kind, found.root) == (Kind.NAMED, root)


def test_a_name_with_blanks_is_the_same_in_both_spellings() -> None:
    root = subvolume(256, "my root")
    statements = [_command_line('rootflags="subvol=my root"'), _fstab(r"ro,subvol=my\040root")]
    assert decide(statements, (TOP, root), 5, 256).root == root


@pytest.mark.parametrize(
    ("options", "name", "number"),
    [
        ("rootflags=subvol=root", "root", None),
        ("rootflags=subvol=/root/", "root", None),
        ("rootflags=ro,subvol=a,subvol=root", "root", None),
        ("rootflags=subvol=root rootflags=compress=zstd", "root", None),
        ("rootflags=subvolid=256", None, 256),
        ("rootflags=subvolid=0x100", None, 256),
        ("rootflags=subvolid=0400", None, 256),
        ("rootflags=subvolid=+256", None, 256),
        ("rootflags=subvolid=0", None, 5),
        ("rootflags=subvolid=0x0", None, 5),
        ("rootflags=subvol=//./root/", "root", None),
        ("rootflags=subvol=./", "", None),
        ("rootflags=subvolid=256,subvol=/root", "root", 256),
        ("rootflags=subvol=/root,subvolid=256", "root", 256),
        ("rootflags=compress=zstd", None, None),
        ("", None, None),
        ("subvol=root", None, None),
    ],
)
def test_what_a_line_says(options: str, name: Optional[str], number: Optional[int]) -> None:
    found = _command_line(options)
    assert (found.subvolume, found.subvolume_id) == (name, number)
    assert found.silent == (name is None and number is None)


@pytest.mark.parametrize(
    "statement", [_command_line("rootflags=subvolid=256"), _entry("rootflags=subvolid=256")]
)
def test_a_pin_is_refused_with_the_edit(statement: Statement) -> None:
    error = _refusal(statement)
    assert statement.where in str(error)
    assert "subvolid=256" in str(error)
    assert "replace 'subvolid=256' with 'subvol=root'" in error.hint


def test_nobody_is_told_to_edit_the_running_kernels_command_line() -> None:
    assert "/proc/cmdline" not in _refusal(_command_line("rootflags=subvolid=256")).hint


def test_a_pin_in_fstab_names_file_and_line() -> None:
    error = _refusal(_command_line("rootflags=subvol=root"), _fstab("noatime,subvolid=256"))
    assert "/etc/fstab line 3" in str(error)
    assert "In /etc/fstab, replace 'subvolid=256' with 'subvol=root'" in error.hint


@pytest.mark.parametrize("options", ["subvolid=256,subvol=/root", "subvol=root,subvolid=256"])
def test_an_id_beside_the_name_pins_as_well(options: str) -> None:
    # genfstab writes both. After an exchange the kernel refuses such a mount: "subvol '/root' does
    # not match subvolid 256" (btrfs, mount_subvol): the machine would not boot.
    for statement in (_fstab(options), _command_line(f"rootflags={options}")):
        error = _refusal(statement)
        assert "remove 'subvolid=256'" in error.hint


def test_a_pin_of_the_top_level_or_of_nothing() -> None:
    assert "remove 'subvolid=5'" in _refusal(_fstab("subvolid=5"), root_id=5).hint
    assert "remove 'subvolid=0x0'" in _refusal(_fstab("subvolid=0x0"), root_id=5).hint
    # Without the pin the default subvolume would boot, which is another one here.
    other = _refusal(_fstab("subvolid=0"), default_id=256, root_id=5)
    assert other.hint.startswith(
        "Run 'btrfs subvolume set-default 5 /'. Then, in /etc/fstab, remove"
    )
    assert "remove 'subvolid=999'" in _refusal(_fstab("subvolid=999")).hint


@pytest.mark.parametrize("number", ["", "x", "256a", "0258", "1.0", "0x", " 256", "-1", "\u0662"])
def test_a_pin_that_is_no_number(number: str) -> None:
    with pytest.raises(RefusedError, match="not a subvolume ID"):
        _fstab(f"subvolid={number}")
    with pytest.raises(RefusedError, match="not a subvolume ID"):
        _command_line(f"rootflags=subvolid={number}")


@pytest.mark.parametrize("options", ["subvol=/", "subvol=", "subvol=//"])
def test_a_top_level_that_is_named_cannot_be_exchanged(options: str) -> None:
    error = _refusal(_command_line(f"rootflags={options}"), root_id=5)
    assert "top level" in str(error)
    assert "remove 'subvol=/'" in error.hint
    assert "set-default" not in error.hint
    # Where the default is another one, removing the name alone would boot that.
    assert "set-default 5" in _refusal(_fstab(options), default_id=256, root_id=5).hint


def test_disagreement_names_both_lines() -> None:
    error = _refusal(_command_line("rootflags=subvol=root"), _fstab("subvol=home"))
    for part in ("/proc/cmdline", "rootflags=subvol=root", "/etc/fstab line 3", "subvol=home"):
        assert part in str(error)


def test_an_entry_that_disagrees_with_the_running_system() -> None:
    error = _refusal(_command_line("rootflags=subvol=root"), _entry("rootflags=subvol=home"))
    assert "/boot/loader/entries/a.conf" in str(error)


def test_a_silent_entry_disagrees_where_the_default_is_another() -> None:
    # grubby --remove-args took the subvolume out of one entry: it boots the default subvolume.
    named = _command_line("rootflags=subvol=root")
    assert "a.conf" in str(_refusal(named, _entry("quiet"), default_id=5))
    assert decide([named, _entry("quiet")], FEDORA, 256, 256).root == ROOT


def test_only_fstab_names_the_root() -> None:
    # An initramfs that takes the subvolume from fstab: the silent command line decides nothing.
    found = decide([_command_line("quiet"), _fstab("subvol=root")], FEDORA, 5, 256)
    assert (found.kind, found.root) == (Kind.NAMED, ROOT)
    # But where the default subvolume is what runs, an fstab that names another is wrong.
    _refusal(_command_line("quiet"), _fstab("subvol=home"), default_id=256, root_id=256)


def test_a_silent_fstab_says_nothing() -> None:
    found = decide([_command_line("rootflags=subvol=root"), _fstab("defaults")], FEDORA, 5, 256)
    assert (found.kind, found.root) == (Kind.NAMED, ROOT)


def test_a_missing_subvolume_is_named() -> None:
    error = _refusal(_command_line("rootflags=subvol=root"), _fstab("subvol=gone"))
    assert "/etc/fstab line 3 names a subvolume that does not exist" in str(error)
    assert "subvol=gone" in str(error)


def test_a_prefix_is_no_match() -> None:
    _refusal(_command_line("rootflags=subvol=roo"))
    _refusal(_command_line("rootflags=subvol=root/x"))


@pytest.mark.parametrize("root", ["UUID=0a0a", "/dev/sdb1", "/dev/mapper/other"])
def test_an_entry_for_another_filesystem_is_ignored(root: str) -> None:
    line = f"root={root} rootflags=subvol=other"
    assert from_command_line("x", line, OURS) is None
    assert from_boot_entry(bls.parse("x", f"options {line}\n"), OURS) is None


@pytest.mark.parametrize(
    ("root", "ours"), [("UUID=5b5b", True), ("/dev/vda3", True), ("/dev/vda9", None)]
)
def test_a_line_tells_whether_it_is_known_to_be_ours(root: str, ours: Optional[bool]) -> None:
    found = from_command_line("x", f'root="{root}" rootflags=subvol=root', OURS)
    assert found is not None
    assert (found.subvolume, found.is_ours) == ("root", ours)


def test_what_boots_no_root_says_nothing() -> None:
    assert from_boot_entry(bls.parse("x", "title Memory test\nefi /memtest.efi\n"), OURS) is None
    assert from_fstab("/etc/fstab", fstab.parse("UUID=1 /home btrfs subvol=home 0 0\n")) is None
    assert from_fstab("/etc/fstab", fstab.parse("")) is None
