# SPDX-License-Identifier: GPL-2.0-or-later
"""Power cuts: copies of the disk taken between any two changes, mounted afresh, have a root."""

from __future__ import annotations

import json
import subprocess
from datetime import datetime
from pathlib import Path

import pytest

from fs_rollback.core.snapshots.record import Kind, PackageChange, Transaction
from fs_rollback.errors import KernelError
from fs_rollback.system.linux import btrfs, durable
from fs_rollback.system.snapshots import take_and_delete
from tests.kernel.conftest import MakeMachine
from tests.kernel.faults import Faulty, state
from tests.kernel.images import Camera
from tests.kernel.machine import Machine, run


def _boots_old_or_new(machine: Machine, image: Path) -> str:
    """Boot an image, check that its root is complete, settle it; returns which root it was."""
    machine.adopt(image)
    version = machine.read("usr/bin/app")
    data = machine.read("var/data")
    assert (version, data) in {("version 1\n", "data 1\n"), ("version 2\n", "2\n")}
    for path in ("etc/fstab", "etc/kernel/cmdline", "usr/lib/modules/6.1.0-1/modules.dep"):
        assert (machine.root / path).exists()
    assert machine.read("root/.profile") == "user's 1\n"
    assert machine.read("var/lib/machines/guest") == "user's 1\n"
    with machine.writing():
        pass
    machine.reboot()
    assert machine.read("usr/bin/app") == version, "settling changed what boots"
    spare = [
        p
        for p in machine.subvolume_paths()
        if p.startswith("fs-snapshots/root_") and p.count("/") == 1
    ]
    top_level_is_replaced = machine.layout == "top-level" and version == "version 1\n"
    assert len(spare) == (1 if top_level_is_replaced else 0), "a leftover"
    replaced = [s for s in machine.snapshots() if s.is_replaced]
    assert len(replaced) == (1 if version == "version 1\n" else 0)
    assert "pending.json" not in state(machine)["store"]  # type: ignore[operator]
    return version


def test_every_image_of_a_rollback_boots(machine: Machine, tmp_path: Path) -> None:
    machine.upgrade()
    machine.use(1)
    name = machine.snapshots()[0].name
    subprocess.run(("sync", "--file-system", str(machine.root)), check=True)
    camera = Camera((machine.image,), tmp_path)
    machine.roll_back(name, lambda host: Faulty(host, observe=camera))
    camera("done")
    seen = [_boots_old_or_new(machine, image) for _, (image,) in camera.different()]
    assert seen[0] == "version 2\n"
    assert seen[-1] == "version 1\n", "a rollback that was said to be done is on the disk"
    assert seen == sorted(seen, reverse=True), "once it boots the new root, it always does"


def test_every_image_of_an_undo_boots(machine: Machine, tmp_path: Path) -> None:
    machine.upgrade()
    machine.use(1)
    name = machine.snapshots()[0].name
    subprocess.run(("sync", "--file-system", str(machine.root)), check=True)
    camera = Camera((machine.image,), tmp_path)
    machine.roll_back(name)
    machine.take_back(lambda host: Faulty(host, observe=camera))
    camera("done")
    seen = [_boots_old_or_new(machine, image) for _, (image,) in camera.different()]
    assert seen[0] == "version 1\n"
    assert seen[-1] == "version 2\n"
    assert seen == sorted(seen)


@pytest.mark.parametrize("layout", ["named", "top-level"])
@pytest.mark.parametrize("packages", [1, 300])
def test_no_image_has_a_snapshot_without_its_record(
    make_machine: MakeMachine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    layout: str,
    packages: int,
) -> None:
    """The record is written first and unsynced: the snapshot's own commit must carry it."""
    machine = make_machine(layout)
    machine.take("so that there is a store")
    camera = Camera((machine.image,), tmp_path)
    _observe(monkeypatch, camera)
    changes = tuple(
        PackageChange("upgrade", f"package-{n}", "x86_64", "1-1", "2-1") for n in range(packages)
    )
    transaction = Transaction("dnf4", ("dnf", "upgrade"), "admin", changes)
    names = []
    for _ in range(3):
        with machine.writing() as (host, store):
            now = datetime.now().astimezone()
            names.append(
                take_and_delete.take(host, store, Kind.PRE, now, transaction=transaction).name
            )
    monkeypatch.undo()
    found = 0
    for label, (image,) in camera.different():
        machine.adopt(image)
        for snapshot in machine.snapshots():
            if snapshot.exists and snapshot.name in names:
                found += 1
                assert snapshot.record is not None, f"{label}: {snapshot.problem}"
                assert snapshot.record.transaction is not None
                assert len(snapshot.record.transaction.packages) == packages
        with machine.writing():
            pass
        assert not [s for s in machine.snapshots() if s.gone], "a record of nothing is left"
    assert found >= 3, "the last image after each snapshot has it"


def _observe(monkeypatch: pytest.MonkeyPatch, camera: Camera) -> None:
    """Take an image after each of the two writes that make a snapshot."""
    write, create = durable.write_for_next_commit, btrfs.create_snapshot

    def observed_write(directory: int, name: str, text: str) -> None:
        write(directory, name, text)
        camera("record")

    def observed_create(source: str, destination: str, *, read_only: bool) -> None:
        create(source, destination, read_only=read_only)
        camera("snapshot")

    monkeypatch.setattr(durable, "write_for_next_commit", observed_write)
    monkeypatch.setattr(btrfs, "create_snapshot", observed_create)


def test_a_record_is_whole_or_absent(named: Machine, tmp_path: Path) -> None:
    """Durable writes: after write_text returns, the next image has the new text."""
    name = named.take("first")
    camera = Camera((named.image,), tmp_path)
    with named.writing() as (_, store):
        for number in range(5):
            record = store.load()[0].record
            assert record is not None
            store.write(record._replace(description=f"number {number}" * 400))
            camera(f"number {number}")
    for label, (image,) in camera.images:
        named.adopt(image)
        text = (named.top / "fs-snapshots" / f"{name}.json").read_text()
        assert json.loads(text)["description"] == label * 400


def test_a_snapshot_that_fails_leaves_no_record(named: Machine) -> None:
    named.take("so that there is a store")
    before = state(named)
    with named.writing() as (host, store):
        (named.root / "swap").touch()
        subprocess.run(("chattr", "+C", str(named.root / "swap")), check=True)
        subprocess.run(("fallocate", "-l", "8M", str(named.root / "swap")), check=True)
        run("mkswap", str(named.root / "swap"))
        subprocess.run(("chmod", "600", str(named.root / "swap")), check=True)
        subprocess.run(("swapon", str(named.root / "swap")), check=True)
        try:
            with pytest.raises(KernelError, match="Text file busy"):
                take_and_delete.take(host, store, Kind.MANUAL, datetime.now().astimezone())
        finally:
            subprocess.run(("swapoff", str(named.root / "swap")), check=True)
    (named.root / "swap").unlink()
    assert state(named)["store"] == before["store"]
