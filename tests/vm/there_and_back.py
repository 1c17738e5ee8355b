# SPDX-License-Identifier: GPL-2.0-or-later
"""Upgrade, break, roll back, boot, look, undo, boot, look: what holds on every kind of machine."""

from __future__ import annotations

import re

from tests.sandbox.rpms import Package

from .base import Kernel
from .design import Boot, Design
from .kernels import kernel_package
from .machine import Machine, repository_files

# What a machine says of its root; read back by `_root`. Modules are loaded on demand, from the
# directory of the running kernel: ext4 or vfat may be there since the start, loop is not.
_BOOTED = """
echo "root: $(findmnt --noheadings --output FSROOT --mountpoint /)" \
    "$(btrfs inspect-internal rootid /)"
[ "$(uname -r)" = {kernel} ]
[ "$(rpm -q kernel-core)" = {package} ]
modprobe loop
"""

_UPGRADE_AND_BREAK = """
[ "$(app)" = 1 ]
echo before >/home/before
for nested in {nested}; do echo before >"$nested/data"; done
dnf --assumeyes upgrade | tee upgrade
[ "$(grep -c fs-snapshot upgrade)" -eq 1 ]
grep -Ex 'fs-snapshot: snapshotting /: /fs-snapshots/yum_[0-9]{{14}}' upgrade
[ "$(ls {entries} | grep -c fs-snapshot-)" -eq 1 ]
[ "$(app)" = 2 ]
printf '#!/bin/sh\\necho broken\\n' >/usr/bin/app
rm /usr/share/app/data
for nested in {nested}; do echo after >"$nested/data"; done
echo after >/home/after
fs-rollback rollback --yes >said
cat said
[ "$(app)" = broken ]
"""

# A kernel that the restored root has no modules for.
_NAMES_THE_OTHER = "grep 'boot entry .*{kernel} stays in the menu' said\n"

_LOOK_AND_UNDO = """
[ "$(app)" = 1 ]
[ "$(rpm -q app)" = app-1-1.noarch ]
[ -z "$(rpm -V app)" ]
[ "$(cat /usr/share/app/data)" = 1 ]
[ "$(cat /home/before /home/after)" = "$(printf 'before\\nafter')" ]
for nested in {nested}; do
    [ "$(cat "$nested/data")" = after ]
    [ "$(stat --format=%i "$nested")" = 256 ]
done
findmnt --verify --tab-file /etc/fstab
for mounted in {mounted}; do findmnt --mountpoint "$mounted"; done
fs-rollback check || [ $? -eq 1 ]
fs-rollback undo --yes --to-replaced
"""

_LOOK_AGAIN = """
[ "$(app)" = broken ]
[ "$(rpm -q app)" = app-2-1.noarch ]
[ ! -e /usr/share/app/data ]
[ "$(cat /home/before /home/after)" = "$(printf 'before\\nafter')" ]
for nested in {nested}; do [ "$(cat "$nested/data")" = after ]; done
for mounted in {mounted}; do findmnt --mountpoint "$mounted"; done
fs-rollback check || [ $? -eq 1 ]
"""


def app(version: str) -> Package:
    """Return the package that is upgraded; version 1 has to be installed."""
    files = {
        "/usr/bin/app": f"#!/bin/sh\necho {version}\n",
        "/usr/share/app/data": f"{version}\n",
    }
    return Package("app", version, files=files)


def there_and_back(machine: Machine, *, kernel: bool, then: str = "") -> None:
    """Tell the story; with `kernel` the upgrade has one that takes the place of the old one.

    `then` is what the last boot does when all is as it was after the upgrade.
    """
    design = machine.design
    old, new = machine.base.kernels
    offered = [app("2"), *([kernel_package(new, replaces=True)] if kernel else [])]
    # In a named root with /boot inside all of it follows the exchange.
    follows = design.root.is_named and design.boot is Boot.IN_ROOT
    other = _NAMES_THE_OTHER if kernel and not follows else ""
    upgrade = _job(design, old, _UPGRADE_AND_BREAK) + other.format(kernel=new.version)
    first = _root(machine.boot(upgrade, repository_files(offered)).output)
    second = _root(machine.boot(_job(design, old, _LOOK_AND_UNDO)).output)
    again = _job(design, new if kernel else old, _LOOK_AGAIN)
    third = _root(machine.boot(again + then).output)
    assert first[0] == "/" + design.root.subvolume
    assert second[1] != first[1], "another subvolume booted"
    assert third[1] not in (first[1], second[1]), "a copy of the root that was replaced"
    if design.root.is_named:
        assert second[0] == third[0] == first[0], "and the name stays with what boots"


def _job(design: Design, kernel: Kernel, text: str) -> str:
    mounted = [f"/{name}" for name in design.subvolumes]
    mounted += [design.boot_mount] if design.boot_mount else []
    return (_BOOTED + text).format(
        kernel=kernel.version,
        package=kernel_package(kernel).file_name[: -len(".rpm")],
        nested=" ".join(design.nested),
        mounted=" ".join(mounted),
        entries=design.entries,
    )


def _root(output: str) -> tuple[str, int]:
    """Return the path and the ID of the subvolume that a machine said it runs from."""
    found = re.search(r"^root: (\S+) (\d+)$", output, re.MULTILINE)
    assert found is not None, output
    return found.group(1), int(found.group(2))
