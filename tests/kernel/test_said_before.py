# SPDX-License-Identifier: GPL-2.0-or-later
"""What a rollback says before its question of what stays, and of what does not fit that."""

from __future__ import annotations

import os
import shlex

import btrfsutil

from tests.kernel.commands import done
from tests.kernel.machine import Machine

_LAYERS = 20
_ENGINES = {
    "var/lib/docker": "btrfs/subvolumes",
    "var/lib/containers": "storage/btrfs/subvolumes",
    "root/.local/share/containers": "storage/btrfs/subvolumes",
    "data/my engine": "btrfs/subvolumes",
    "var/lib/containerd": "io.containerd.snapshotter.v1.btrfs/active",
    "var/lib/incus": "storage-pools/default/containers",
}


def _nest(machine: Machine, path: str) -> None:
    place = machine.root / path
    place.parent.mkdir(parents=True, exist_ok=True)
    btrfsutil.create_subvolume(str(place))
    (place / "file").write_text("1\n")


def _machine_with_services(machine: Machine) -> str:
    for engine, inside in _ENGINES.items():
        for layer in range(_LAYERS if engine == "var/lib/docker" else 1):
            _nest(machine, f"{engine}/{inside}/{layer}")
        machine.write(machine.root, f"{engine}/index", "1\n")
    _nest(machine, ".snapshots")
    for number in range(5):
        _nest(machine, f".snapshots/{number}/snapshot")
    name = machine.upgrade()
    for engine, inside in _ENGINES.items():
        (machine.root / engine / "index").write_text("2\n")
        _nest(machine, f"{engine}/{inside}/new")
    return name


def test_services_whose_subvolumes_stay_and_whose_index_does_not(named: Machine) -> None:
    name = _machine_with_services(named)
    words = ("rollback", name, "--dry-run", "--keep", "/root")
    text = done(named.root, *words).out
    # What is many is one line each, where it is done and where it stays.
    place = f"{_LAYERS + 1} in /var/lib/docker/btrfs/subvolumes"
    assert text.count(place) == 2
    assert "/.snapshots and 5 in it" in text
    assert len(text.splitlines()) < 60
    warnings = [line for line in text.splitlines() if line.startswith("Warning: in ")]
    for engine in _ENGINES:
        wanted = f"--keep {shlex.quote(f'/{engine}')}"
        found = [line for line in warnings if line.endswith(wanted)]
        assert len(found) == (0 if engine.startswith("root/") else 1), (engine, warnings)
    assert len(warnings) == len(_ENGINES) - 1
    # Data for programs has every one.
    carried = done(named.root, *words, "--json").json["reverts"]["carried"]
    assert len([p for p in carried if p.startswith("/var/lib/docker/")]) == _LAYERS + 1
    keep = [w for line in warnings for w in shlex.split(line[line.index("--keep") :])]
    plan = done(named.root, "rollback", name, "--yes", "--json", *keep).json
    assert plan["warnings"] == []
    for engine, inside in _ENGINES.items():
        assert (named.next_root() / engine / "index").read_text() == "2\n"
        assert (named.next_root() / engine / inside / "new/file").read_text() == "1\n"


def test_what_is_mounted_is_no_part_of_it(named: Machine) -> None:
    for name in ("var", "srv"):
        btrfsutil.create_subvolume(str(named.top / name))
    fstab = named.root / "etc/fstab"
    lines = f"UUID={named.uuid} /srv btrfs subvol=srv 0 0\nLABEL=big /var/opt xfs defaults 0 0\n"
    lines += "tmpfs /tmp tmpfs defaults 0 0\nLABEL=stick /mnt/stick vfat noauto 0 0\n"
    fstab.write_text(fstab.read_text() + lines)
    name = named.upgrade()
    fstab.write_text(fstab.read_text() + "LABEL=data /data xfs defaults 0 0\n")
    text = done(named.root, "rollback", name, "--dry-run").out
    assert "  /home (a subvolume of its own)\n" in text
    assert "  /srv, /var/opt (mounted from outside the root)\n" in text
    assert "no line for /data, so it will not be mounted" in text
    keep = ("--keep", "/etc/fstab")
    plan = done(named.root, "rollback", name, "--yes", "--json", *keep).json
    assert plan["reverts"]["mounted"] == ["/home", "/srv", "/var/opt", "/data"]
    assert plan["warnings"] == []
    assert "LABEL=data" in (named.next_root() / "etc/fstab").read_text()
    assert os.path.exists(named.next_root() / "etc/fstab")
