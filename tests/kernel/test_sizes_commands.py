# SPDX-License-Identifier: GPL-2.0-or-later
"""What the commands say of the room that snapshots hold, and that it is true."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from fs_rollback.config import Config
from fs_rollback.system.machine import host
from fs_rollback.system.snapshots import make_room
from fs_rollback.system.space import room
from tests.kernel.commands import done, fs_rollback
from tests.kernel.held_data import Filesystem
from tests.kernel.machine import Machine, run
from tests.kernel.test_hard_cases import _fill
from tests.unit.manual import differences

KIB = 1 << 10
_STEP = 12 << 20


def _upgraded(machine: Machine) -> list[str]:
    """Take three snapshots: of 100, 200 and 300 KiB that are replaced after each of them."""
    names = []
    for number in (1, 2, 3):
        (machine.root / "var/data").write_bytes(os.urandom(number * 100 * KIB))
        names.append(machine.upgrade(number + 1))
    return names


def _freed(machine: Machine, *words: str) -> int:
    filesystem = Filesystem(machine.top)
    before = filesystem.data()
    done(machine.root, *words)
    freed = before - filesystem.data()
    os.close(filesystem.top_fd)
    return freed


def test_list_with_sizes(named: Machine) -> None:
    names = _upgraded(named)
    answer = done(named.root, "list", "--size", "--json").json
    assert differences("list", answer) == []
    rows = [(r["name"], r["alone_bytes"], r["with_older_bytes"]) for r in answer["snapshots"]]
    alone, older = [100 * KIB, 200 * KIB, 300 * KIB], [100 * KIB, 300 * KIB, 600 * KIB]
    assert rows == list(zip(names, alone, older))
    assert answer["held"] == [{"snapshots": [n], "bytes": b} for n, b in zip(names, alone)]
    assert "held" not in done(named.root, "list", "--json").json
    text = done(named.root, "list", "--size").out
    assert re.search(rf"200\.0 KiB +300\.0 KiB +{names[1]}$", text, re.MULTILINE), text
    assert all(len(line) <= 80 for line in text.splitlines())
    status = fs_rollback(named.root, "status", "--json").json
    assert differences("status", status) == []
    assert status["space"]["held_bytes"] == 600 * KIB
    assert "; the snapshots hold 600.0 KiB\n" in fs_rollback(named.root, "status").out


def test_no_snapshots_hold_nothing(named: Machine) -> None:
    answer = done(named.root, "list", "--size", "--json").json
    assert (answer["snapshots"], answer["held"]) == ([], [])
    assert "no snapshots yet" in done(named.root, "list", "--size").err
    assert fs_rollback(named.root, "status", "--json").json["space"]["held_bytes"] == 0


def test_what_deletion_would_give_back(named: Machine) -> None:
    names = _upgraded(named)
    done(named.root, "pin", names[1])
    told = fs_rollback(named.root, "delete", "--dry-run", *names)
    assert told.code == 3
    assert f"({names[1]}): it is pinned" in told.err
    assert names[1] not in told.out
    assert told.out.endswith("This would free 400.0 KiB.\n")
    assert [s.name for s in named.snapshots()] == names
    assert _freed(named, "delete", names[0], names[2]) == 400 * KIB


def test_which_snapshots_to_delete_on_a_full_disk(named: Machine) -> None:
    """As many of the oldest as give back what is missing; the sum is true and the command works."""
    config = "keep_last = 9\nkeep_days = 9\n"
    named.write(named.root, "etc/fs-rollback.conf", config)
    for number in range(1, 6):
        (named.root / "var/data").write_bytes(os.urandom(_STEP))
        named.upgrade(number + 1)
    _fill(named)
    status = fs_rollback(named.root, "status", "--json").json
    (line,) = (a for a in status["attention"] if "are free" in a)
    found = re.search(r"'fs-rollback (delete [^']+)' deletes (\d) snapshots and frees", line)
    assert found is not None, line
    words = [word for word in found[1].split() if word not in ("--root", str(named.root))]
    assert len(words) - 1 == int(found[2])
    total = status["space"]["total_bytes"]
    enough = -(-total // 20 // _STEP)
    assert words[1:] == [str(s.id) for s in named.snapshots()[:enough]]
    assert f"frees {enough * (_STEP >> 20)}.0 MiB. " in line
    assert _freed(named, *words) == enough * _STEP


def test_a_disk_with_too_little_room_for_metadata(tmp_path: Path) -> None:
    """Data has half of the disk and does not use it: the command gives that to metadata."""
    machine = Machine(tmp_path, "named")
    try:
        machine.create(6 << 30)
        run("btrfs", "balance", "start", "-f", "-mconvert=dup", "-sconvert=dup", str(machine.top))
        for number in range(90):
            with (machine.root / f"var/{number}").open("wb") as file, suppress(OSError):
                os.posix_fallocate(file.fileno(), 0, 64 << 20)
        for number in range(0, 90, 2):
            (machine.root / f"var/{number}").unlink()
        run("btrfs", "filesystem", "sync", str(machine.top))
        with host.opened(str(machine.root)) as opened:
            short = room.missing(opened, 8 << 30)  # half a GiB of metadata
            assert short is not None
            assert short.is_metadata
            advice = make_room.for_shortage(opened, None, Config().policy, short)
            (command,) = re.findall(r"'(btrfs balance [^']+)' makes room for metadata", advice)
            run(*command.split())
            left = room.missing(opened, 8 << 30)
            assert left is not None
            assert not left.is_metadata
    finally:
        machine.destroy()


def test_what_is_not_enough(named: Machine) -> None:
    named.write(named.root, "etc/fs-rollback.conf", "keep_last = 9\nkeep_days = 9\n")
    names = _upgraded(named)
    _fill(named)
    status = fs_rollback(named.root, "status", "--json").json
    (line,) = (a for a in status["attention"] if "are free" in a)
    assert f"deletes the oldest snapshot, {named.snapshots()[0].id} ({names[0]})" in line
    assert "and frees 100.0 KiB. All that can be deleted would free 600.0 KiB. " in line
    checked = fs_rollback(named.root, "check", "--json")
    assert "filesystem.nearly-full" in {row["code"] for row in checked.json["links"]}


def test_quota_groups_are_never_on(named: Machine) -> None:
    _upgraded(named)
    done(named.root, "list", "--size")
    assert not Path(f"/sys/fs/btrfs/{named.uuid}/qgroups").exists()
