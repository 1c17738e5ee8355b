# SPDX-License-Identifier: GPL-2.0-or-later
"""A usual upgrade on a machine that is only mounted: real rpm databases, and files of services."""

from __future__ import annotations

import os
from pathlib import Path

from fs_rollback.core.snapshots.record import Outcome, PackageChange, Transaction
from fs_rollback.system.hooks import transaction
from tests.kernel.machine import Machine, run
from tests.sandbox.rpms import Package, build

RPMDB = "var/lib/rpm"
MANY = 54
_CONF = "/etc/app/app.conf"
# What `work` does in /etc, as the question says it.
EDITED = {"/etc/chrony.conf": " (deleted)", "/etc/hosts": "", "/etc/new.conf": " (new)"}
# The same for its package, which is not upgraded.
IN_USR = {"/usr/bin/tool": " (deleted)"}
TOOL_DATA = "/usr/share/tool/data"


def _packages(version: str, kernel: str) -> tuple[Package, ...]:
    return (
        Package("kernel-core", kernel, files={f"/usr/lib/modules/{kernel}/vmlinuz": kernel}),
        Package("glibc", f"2.4{version}", "7.fc44"),
        Package("systemd", f"258.{version}", "1.fc44"),
        Package("grub2-common", "2.12", f"{version}.fc44", epoch="1"),
        Package("mariadb-server", f"1{version}.11", files={"/var/lib/mysql": "a directory\n"}),
        Package("app", f"{version}.0", files={_CONF: f"version = {version}\n"}),
        Package("many", f"1.{version}", more=MANY),
    )


def _built(version: str, kernel: str, directory: Path) -> list[Path]:
    place = directory / f"packages-{version}"
    packages = build(_packages(version, kernel), place)
    return [*packages, *sorted(place.glob("many-0*.rpm"))]


def rpm(machine: Machine, *arguments: object) -> None:
    """Have rpm change the machine's database, and nothing else."""
    place = str(machine.root / RPMDB)
    options = "--justdb", "--nodeps", "--noscripts", "--notriggers", "--ignorearch"
    run("rpm", "--dbpath", place, *options, *map(str, arguments))


def install(machine: Machine, directory: Path) -> None:
    """Install the first version of everything."""
    tool = Package("tool", "1", files=dict.fromkeys((*IN_USR, TOOL_DATA), "first\n"))
    rpm(machine, "--install", *_built("1", "6.1", directory), *build((tool,), directory / "tool"))
    machine.write(machine.root, _CONF.strip("/"), "version = 1\n")
    paths = ("etc/hosts", "etc/chrony.conf", "var/lib/mysql/ibdata1", "srv/www/index.html")
    for path in (*paths, *(path.strip("/") for path in (*IN_USR, TOOL_DATA))):
        machine.write(machine.root, path, "first\n")


def upgrade(machine: Machine, directory: Path) -> str:
    """Upgrade everything in a transaction, with a new kernel beside the old one."""
    change = PackageChange("upgrade", "app", "noarch", "1.0-1", "2.0-1")
    told = Transaction("dnf5", ("dnf", "upgrade", "--refresh"), "admin", (change,))
    taken = transaction.before(told, str(machine.root))
    assert isinstance(taken, transaction.Taken), taken
    kernel, *others = _built("2", "6.2", directory)
    rpm(machine, "--install", kernel)
    rpm(machine, "--upgrade", *others)
    (machine.root / _CONF.strip("/")).write_text("version = 2\n")
    assert transaction.after(taken, Outcome.DONE, 7) == []
    return taken.record.name


def work(machine: Machine) -> None:
    """Do what services and an administrator do."""
    (machine.root / "etc/hosts").write_text("edited\n")
    (machine.root / "etc/chrony.conf").unlink()
    machine.write(machine.root, "etc/new.conf", "new\n")
    for path in IN_USR:
        (machine.root / path.strip("/")).unlink()
    (machine.root / "var/lib/mysql/ibdata1").write_bytes(os.urandom(3 << 20))
    (machine.root / "srv/www/index.html").write_text("written since\n")
