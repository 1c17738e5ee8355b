# SPDX-License-Identifier: GPL-2.0-or-later
"""GRUB_SAVEDEFAULT=true: what somebody chose in the menu once must not boot for ever."""

from __future__ import annotations

import pytest

from fs_rollback.core.boot.entries import trial_of
from fs_rollback.system.loader import entries as loader
from fs_rollback.system.machine import host
from fs_rollback.system.root import root_lines
from tests.kernel.boots import A, B, BootMachine, MakeBoot, make_boot
from tests.kernel.commands import done, fs_rollback

__all__ = ["make_boot"]  # a fixture

_HOW = {
    "grub.cfg": lambda boot: boot.write("grub2/grub.cfg", "set save_default=true\n" + _cfg(boot)),
    "default": lambda boot: boot.machine.write(
        boot.root, "etc/default/grub", 'GRUB_SAVEDEFAULT=false\nGRUB_SAVEDEFAULT="true"\n'
    ),
}


def _cfg(boot: BootMachine) -> str:
    return (boot.place / "grub2/grub.cfg").read_text()


def choose_snapshot(boot: BootMachine) -> str:
    """What GRUB does when somebody chooses the entry of a snapshot: it saves its name."""
    name = boot.ours()[-1]
    boot.write_grubenv({"saved_entry": name, "boot_success": "0"})
    return name


def attention(boot: BootMachine) -> list[str]:
    lines = fs_rollback(boot.root, "status", "--json").json["attention"]
    return [line for line in lines if "the next boot uses the copy of a snapshot again" in line]


@pytest.mark.parametrize("how", _HOW)
def test_the_next_run_makes_the_usual_entry_the_default(make_boot: MakeBoot, how: str) -> None:
    boot = make_boot("ext4")
    _HOW[how](boot)
    boot.transact(boot.install_b)
    assert attention(boot) == []
    choose_snapshot(boot)
    (line,) = attention(boot)
    assert f"'fs-rollback create --root {boot.root}'" in line
    check = fs_rollback(boot.root, "check", "--json").out
    assert "GRUB_SAVEDEFAULT=true" in check
    done(boot.root, "create")
    assert boot.boots() == B, "what came with the last transaction, not what was saved before"
    assert attention(boot) == []
    # An older kernel that somebody has chosen stays the usual one, once that is known.
    boot.choose(A)
    boot.transact()
    choose_snapshot(boot)
    boot.transact()
    assert boot.boots() == A
    # Nothing but the default was changed.
    assert b"boot_success=0" in boot.setting.read_bytes()


def test_a_default_that_somebody_has_set_stays(make_boot: MakeBoot) -> None:
    """Without GRUB_SAVEDEFAULT nobody but a person has written it."""
    boot = make_boot("ext4")
    boot.machine.write(boot.root, "etc/default/grub", "#GRUB_SAVEDEFAULT=true\n")
    boot.transact()
    name = choose_snapshot(boot)
    assert attention(boot) == []
    boot.transact()
    assert boot.default_name() == name
    with host.opened(str(boot.root)) as machine:
        found = loader.read(machine, root_lines.read_layout(machine))
        assert found.default is not None
        assert trial_of(found.default.entry) in {p.name for p in boot.store().iterdir()}


def test_grub_cannot_save_on_btrfs(make_boot: MakeBoot) -> None:
    boot = make_boot("subvolume")
    _HOW["default"](boot)
    boot.transact()
    name = choose_snapshot(boot)
    assert attention(boot) == []
    boot.transact()
    assert boot.default_name() == name


def test_no_kernel_of_the_root_fits(make_boot: MakeBoot) -> None:
    """Then nothing tells what was usual, and nothing is written."""
    boot = make_boot("ext4")
    _HOW["default"](boot)
    boot.transact()
    name = choose_snapshot(boot)
    boot.remove_modules(A)
    done(boot.root, "create")
    assert boot.default_name() == name
