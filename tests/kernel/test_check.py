# SPDX-License-Identifier: GPL-2.0-or-later
"""`fs-rollback check` on machines with one broken link each, and rollbacks into such a system."""

from __future__ import annotations

from pathlib import Path
from typing import Callable

import btrfsutil
import pytest

from fs_rollback.errors import VerificationError
from fs_rollback.system.execute.trees import Operations
from tests.kernel.commands import Done, fs_rollback
from tests.kernel.faults import state
from tests.kernel.machine import KERNEL, Machine

ENTRY = f"boot/loader/entries/abc-{KERNEL}.conf"
IMAGE = b"\0" * 0x202 + b"HdrS" + b"\0" * 64


def furnish(machine: Machine) -> Path:
    """Give a machine what a boot needs beside its tree: a loader, an initramfs, an init."""
    root = machine.root
    (root / f"boot/vmlinuz-{KERNEL}").write_bytes(IMAGE)
    machine.write(root, f"boot/initramfs-{KERNEL}.img", "initramfs\n")
    machine.write(root, "boot/grub2/grub.cfg", "blscfg\nset default=${saved_entry}\n")
    text = (root / ENTRY).read_text()
    prefix = text.partition("linux ")[2].partition("/vmlinuz")[0]
    (root / ENTRY).write_text(text + f"initrd {prefix}/initramfs-{KERNEL}.img\n")
    machine.write(root, "usr/lib/systemd/systemd", "#!\n")
    (root / "usr/lib/systemd/systemd").chmod(0o755)
    (root / "home").mkdir(exist_ok=True)
    return root


def check(machine: Machine) -> Done:
    return fs_rollback(machine.root, "check")


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_healthy_machine_has_no_broken_link(machine: Machine) -> None:
    furnish(machine)
    found = fs_rollback(machine.root, "check", "--json").json
    grades = {link["name"]: link["grade"] for link in found["links"]}
    assert "broken" not in grades.values(), found
    for name in ("loader", "default entry", "kernel", "initramfs", "command line", "root", "init"):
        assert grades[name] == "ok", found
    assert grades["modules"] == grades["fstab"] == grades["layout"] == "ok", found
    assert found["version"] == 1
    # No plugin is installed in it, and nothing was ever taken.
    assert found["verdict"] == "warning"
    assert check(machine).code == 1


def lead_nowhere(path: Path) -> None:
    """Make it a link that a system that runs may follow, and the tree alone cannot."""
    path.unlink()
    path.symlink_to("/proc/self/exe")


Break = Callable[[Path], object]
BROKEN: dict[str, tuple[Break, str, str]] = {
    "no kernel": (lambda r: (r / f"boot/vmlinuz-{KERNEL}").unlink(), "kernel", "Reinstall"),
    "cut kernel": (
        lambda r: (r / f"boot/vmlinuz-{KERNEL}").write_bytes(b""), "kernel", "Reinstall"
    ),
    "no initramfs": (
        lambda r: (r / f"boot/initramfs-{KERNEL}.img").unlink(), "initramfs", "dracut"
    ),
    "no such subvolume": (
        lambda r: edit(r / ENTRY, "subvol=root", "subvol=gone"), "command line", "Correct"
    ),
    "no init": (lambda r: (r / "usr/lib/systemd/systemd").unlink(), "init", "roll back"),
    "init to nowhere": (lambda r: lead_nowhere(r / "usr/lib/systemd/systemd"), "init", "systemd"),
    "no modules": (
        lambda r: (r / f"usr/lib/modules/{KERNEL}").rename(r / "usr/lib/modules/other"),
        "modules",
        "reinstall",
    ),
    "no btrfs": (
        lambda r: (r / f"usr/lib/modules/{KERNEL}/modules.builtin").write_text(
            "kernel/fs/ext4/ext4.ko\n"
        ),
        "modules",
        "another entry",
    ),
    "mounted as ext4": (
        lambda r: edit(r / ENTRY, "subvol=root", "subvol=root rootfstype=ext4"),
        "command line",
        "rootfstype=ext4",
    ),
    "options of ext4": (
        lambda r: edit(r / ENTRY, "subvol=root", "data=ordered,subvol=root"),
        "command line",
        "data=ordered",
    ),
    "options of ext4 in fstab": (
        lambda r: edit(r / "etc/fstab", "subvol=root", "errors=remount-ro,subvol=root"),
        "fstab",
        "errors=remount-ro",
    ),
    "no such subvolume in fstab": (
        lambda r: edit(r / "etc/fstab", "subvol=home", "subvol=nothing"), "fstab", "nofail"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_link_is_named_with_what_to_do(named: Machine, case: str) -> None:
    spoil, name, advice = BROKEN[case]
    spoil(furnish(named))
    done = check(named)
    assert done.code == 3, done
    lines = done.out.splitlines()
    numbers = [i for i, line in enumerate(lines) if line.startswith(f"broken   {name} ")]
    assert len(numbers) == 1, done.out
    assert advice in lines[numbers[0] + 1]


WARNED: dict[str, tuple[Break, str, str]] = {
    "pinned": (
        lambda r: edit(r / ENTRY, "subvol=root", f"subvolid={btrfsutil.subvolume_id(str(r))}"),
        "command line",
        "subvol=root",
    ),
    "ext4 in fstab": (
        lambda r: edit(r / "etc/fstab", "/      btrfs", "/ ext4"), "fstab", "'btrfs'"
    ),
    "nofail": (
        lambda r: edit(r / "etc/fstab", "subvol=home", "nofail,subvol=nothing"), "fstab", "fstab"
    ),
    "unknown loader": (lambda r: (r / "boot/grub2/grub.cfg").unlink(), "loader", "boot menu"),
    "other entry": (
        lambda r: (r / "boot/loader/entries/abc-1.0.conf").write_text(
            (r / ENTRY).read_text().replace(KERNEL, "1.0")
        ),
        "other entry",
        "Remove the entry",
    ),
    # It may be on a disk that is not attached to a machine that looks at this one's.
    "no such device": (
        lambda r: edit(r / ENTRY, "root=UUID=", "root=UUID=0000"), "command line", "lsblk"
    ),
    "kernel update": (
        lambda r: edit(r / "etc/kernel/cmdline", "UUID=", "UUID=0000"), "kernel updates", "root="
    ),
    "no modules.dep": (
        lambda r: (r / f"usr/lib/modules/{KERNEL}/modules.dep").unlink(), "modules", "depmod"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WARNED)
def test_what_is_odd_or_unknown_is_a_warning(named: Machine, case: str) -> None:
    spoil, name, advice = WARNED[case]
    spoil(furnish(named))
    done = check(named)
    assert done.code == 1, done
    lines = done.out.splitlines()
    numbers = [i for i, line in enumerate(lines) if line.startswith(f"warning  {name} ")]
    assert numbers, done.out
    assert any(advice in lines[number + 1] for number in numbers), done.out


def test_a_rollback_into_what_does_not_boot_is_taken_back(machine: Machine) -> None:
    root = furnish(machine)
    program = root / "usr/lib/systemd/systemd"
    program.rename(root / "kept")
    name = machine.take("without an init")
    (root / "kept").rename(program)
    before = machine.uuid_of(machine.next_root())
    with pytest.raises(VerificationError, match="init"):
        machine.roll_back(name)
    assert machine.uuid_of(machine.next_root()) == before
    assert (machine.next_root() / "usr/lib/systemd/systemd").exists()
    assert "waits" not in check(machine).out


def test_a_snapshot_without_a_kernel_is_refused_before_anything_is_touched(named: Machine) -> None:
    kernel = furnish(named) / f"boot/vmlinuz-{KERNEL}"
    kernel.rename(named.root / "kept")
    name = named.take("without a kernel")
    (named.root / "kept").rename(kernel)
    before = state(named)
    ended = fs_rollback(named.root, "rollback", name, "--yes")
    ended.expect_refusal(
        f"{name}) can start its kernel: /boot/vmlinuz-{KERNEL} is missing", "another"
    )
    assert state(named) == before
    kernel.unlink()
    ended = fs_rollback(named.root, "rollback", name, "--yes")
    assert ended.code == 0, "what is as broken now keeps nobody from going back"


def test_what_was_broken_before_keeps_nobody_from_going_back(machine: Machine) -> None:
    root = furnish(machine)
    (root / "usr/lib/systemd/systemd").unlink()
    name = machine.take("as odd as it is now")
    machine.roll_back(name)
    done = check(machine)
    assert done.code == 3
    assert "is waiting for a reboot" in done.out


class WithoutHome(Operations):
    """Somebody takes away a subvolume that fstab mounts, when the new root is in its place."""

    def exchange(self, one: str, other: str) -> None:
        super().exchange(one, other)
        home = Path(self._host.path("home"))
        if home.exists():
            home.rename(home.with_name("away"))


def spoil_fstab(root: Path) -> None:
    """Break two of its entries: the root's, and one more."""
    edit(root / "etc/fstab", "/      btrfs   ", "/ btrfs data=ordered,")
    edit(root / "etc/fstab", "# made", "# one more line\n# made")
    with (root / "etc/fstab").open("a") as file:
        file.write((root / "etc/fstab").read_text().splitlines()[-1].replace("home", "data") + "\n")


def test_a_second_fault_of_the_same_kind_takes_a_rollback_back(named: Machine) -> None:
    root = furnish(named)
    name = named.take()
    spoil_fstab(root)
    assert check(named).out.count("broken   fstab") == 2
    before = named.uuid_of(named.next_root())
    with pytest.raises(VerificationError, match="subvol=home"):
        named.roll_back(name, WithoutHome)
    assert named.uuid_of(named.next_root()) == before


def test_faults_that_stay_take_no_rollback_back(named: Machine) -> None:
    """They stand at other lines of the new root's fstab."""
    root = furnish(named)
    spoil_fstab(root)
    name = named.take()
    edit(root / "etc/fstab", "# one more line\n", "")
    old = {line for line in check(named).out.splitlines() if "broken   fstab" in line}
    named.roll_back(name)
    new = {line for line in check(named).out.splitlines() if "broken   fstab" in line}
    assert (len(old), len(new), len(old | new)) == (2, 2, 4)


def test_while_a_rollback_waits_the_next_root_is_what_counts(named: Machine) -> None:
    root = furnish(named)
    name = named.take()
    named.roll_back(name)
    # The running root, which is the replaced one by now.
    (root / "usr/lib/systemd/systemd").unlink()
    assert check(named).code == 1
    (named.next_root() / f"usr/lib/modules/{KERNEL}").rename(named.next_root() / "moved")
    done = check(named)
    assert done.code == 3
    assert "broken   modules" in done.out
