# SPDX-License-Identifier: GPL-2.0-or-later
"""Swap files on btrfs: the kernel uses none that shares its data with a snapshot."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import btrfsutil
import pytest

from tests.kernel.commands import done, fs_rollback
from tests.kernel.machine import Machine, run
from tests.kernel.reboots import arrive

_SIZE = 10 << 20
_UUID = "2f9b048d-0243-4529-8375-66655e593362"


def _make(place: Path, size: int = _SIZE) -> None:
    place.touch(0o600)
    run("chattr", "+C", str(place))
    run("fallocate", "--length", str(size), str(place))
    run("mkswap", "--label", "my swap", "--uuid", _UUID, str(place))


def _is_usable(place: Path) -> bool:
    """Ask the kernel."""
    if subprocess.run(("swapon", str(place)), capture_output=True, check=False).returncode:
        return False
    run("swapoff", str(place))
    return True


def _expect_same(place: Path, mode: int = 0o600) -> None:
    status = place.stat()
    assert (status.st_size, status.st_mode & 0o7777) == (_SIZE, mode)
    said = run("blkid", "--probe", "--output", "export", str(place))
    assert f"UUID={_UUID}" in said
    assert "my" in said


def _name(machine: Machine, path: str) -> None:
    with (machine.root / "etc/fstab").open("a") as file:
        file.write(f"/{path} none swap defaults 0 0\n".replace(" f", "\\040f"))


def _swap_links(machine: Machine) -> list[tuple[str, str]]:
    links = json.loads(fs_rollback(machine.root, "check", "--json").out)["links"]
    return [(link["text"], link["advice"]) for link in links if link["name"] == "swap"]


@pytest.fixture
def swapping(named: Machine) -> Machine:
    """Give a machine with a swap file in each place of the root, none of them active."""
    btrfsutil.create_subvolume(str(named.root / "var/swap"))
    btrfsutil.set_subvolume_read_only(str(named.root / "var/swap"), False)
    for path in ("var/swap/swap file", "swapfile", "root/swapfile"):
        _make(named.root / path)
    _name(named, "var/swap/swap file")
    _name(named, "swapfile")
    named.write(
        named.root,
        "etc/systemd/system/root-swapfile.swap",
        "[Unit]\nDescription=x\n[Swap]\nWhat=/root/swapfile\n",
    )
    return named


_PATHS = ("var/swap/swap file", "swapfile", "root/swapfile")


def test_the_new_root_has_swap_files_that_the_kernel_uses(swapping: Machine) -> None:
    assert [text for text, _ in _swap_links(swapping)] == [f"/{p} can be used" for p in _PATHS]
    name = swapping.upgrade()
    (swapping.root / "root/swapfile").chmod(0o640)  # a kept path is as it is now
    assert not _is_usable(swapping.root / "swapfile")
    plan = done(swapping.root, "rollback", name, "--yes", "--json").json
    (step,) = (s for s in plan["steps"] if s["step"] == "RenewSwap")
    assert step["paths"] == list(_PATHS)
    root = swapping.next_root()
    for path in _PATHS:
        assert _is_usable(root / path), path
        _expect_same(root / path, 0o640 if path.startswith("root/") else 0o600)
    # Nothing was taken from the old root.
    assert _is_usable(swapping.root / "var/swap/swap file")
    done(swapping.root, "undo", "--yes")
    assert _is_usable(swapping.root / "var/swap/swap file")
    assert plan["warnings"] == []
    # What is brought over at the first boot is a copy once more.
    done(swapping.root, "rollback", name, "--yes")
    for path in ("var/swap/late", "root/late"):
        (swapping.root / path).write_text("late")
    swapping.reboot()
    assert set(arrive(swapping, "--at-boot", "--json").json["brought"]) >= {"/root", "/var/swap"}
    for path in _PATHS:
        assert _is_usable(swapping.root / path), path


def test_a_hibernating_machine_is_told(swapping: Machine) -> None:
    swapping.upgrade()
    for path in ("etc/kernel/cmdline", "boot/loader/entries/abc-6.1.0-1.conf"):
        text = (swapping.root / path).read_text()
        (swapping.root / path).write_text(text.replace("quiet", "resume_offset=12345 quiet"))
    warnings = done(swapping.root, "rollback", "--dry-run", "--json").json["warnings"]
    (warning,) = warnings
    assert "resume_offset in /boot/loader/entries/abc-6.1.0-1.conf" in warning
    command = warning.split("after the reboot: ")[1].split("; ")[0]
    assert command == "btrfs inspect-internal map-swapfile -r '/var/swap/swap file'"
    run(*command.split()[:-2], str(swapping.root / "var/swap/swap file"))


def test_without_room_the_rollback_goes_on_and_says_so(swapping: Machine) -> None:
    # The data has no room for a second swap file, and the metadata has: a disk that is filled
    # leaves what the rollback writes its first 8 MiB or much more, as the kernel likes.
    run("btrfs", "balance", "start", "-m", str(swapping.top))
    (swapping.root / "swapfile").unlink()
    _make(swapping.root / "swapfile", 150 << 20)
    filler = swapping.top / "filler"
    run("fallocate", "--length", "120M", str(filler))
    swapping.upgrade()
    plan = done(swapping.root, "rollback", "--yes", "--json").json
    assert "RenewSwap" not in {step["step"] for step in plan["steps"]}
    assert len(plan["warnings"]) == 3
    filler.unlink()
    assert not _is_usable(swapping.next_root() / "swapfile")
    (warning,) = (w for w in plan["warnings"] if " /swapfile" in w)
    swapping.reboot()
    commands = warning.split("when there is room: ")[1].replace("/swapfile", "swapfile")
    run("sh", "-c", f"cd {swapping.root}; {commands}")
    assert _is_usable(swapping.root / "swapfile")


def test_check_names_the_swap_files_that_the_kernel_will_not_use(swapping: Machine) -> None:
    for path in ("compressed", "cow", "holes", "gone", "no-swap"):
        _name(swapping, path)
    run("chattr", "+c", str(swapping.root / "etc"))
    (swapping.root / "cow").write_bytes((swapping.root / "swapfile").read_bytes())
    _make(swapping.root / "holes")
    run("fallocate", "--punch-hole", "--offset", "1M", "--length", "1M",
        str(swapping.root / "holes"))  # fmt: skip
    (swapping.root / "no-swap").write_text("x")
    (swapping.root / "compressed").touch()
    run("chattr", "+c", str(swapping.root / "compressed"))
    (swapping.root / "compressed").write_bytes((swapping.root / "swapfile").read_bytes())
    swapping.take()
    said = {text.rpartition(": ")[2]: advice for text, advice in _swap_links(swapping)}
    for start in ("/swapfile shares", "/cow is copy-on-write", "/holes ", "/gone is missing",
                  "/no-swap is not a swap file", "/compressed is "):  # fmt: skip
        assert [text for text in said if text.startswith(start)], (start, said)
    assert "/var/swap/swap file can be used" in said
    # The advice can be followed as it is printed.
    (advice,) = (a for text, a in said.items() if text.startswith("/swapfile"))
    command = advice.split(". ")[0].replace("/swapfile", "swapfile")
    run("sh", "-c", f"cd {swapping.root}; {command}")
    assert _is_usable(swapping.root / "swapfile")
    assert "/swapfile can be used" in [text for text, _ in _swap_links(swapping)]
