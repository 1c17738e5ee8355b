# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel update that is rolled back: what boots is a kernel that the restored root has."""

from __future__ import annotations

import pytest

from tests.vm.base import newer_loader
from tests.vm.design import Boot, Design, Root
from tests.vm.kernels import kernel_package
from tests.vm.machine import Machine, repository_files
from tests.vm.stories import Story, Telling, wanted

_UPDATE = """
[ "$(uname -r)" = {old} ]
dnf --assumeyes upgrade
fs-rollback rollback --yes | tee said
{names_the_other}
"""

# Modules are loaded on demand, from the directory of the running kernel: ext4 or vfat may be there
# since the start, loop is not.
_FITS = """
[ "$(uname -r)" = {version} ]
modprobe loop
fs-rollback check || [ $? -eq 1 ]
[ "$(rpm -q kernel-core)" = {package} ]
"""


def _back_to_the_old_kernel(machine: Machine, *, replaces: bool) -> None:
    old, new = machine.base.kernels
    packages = [kernel_package(kernel, replaces=replaces) for kernel in (old, new)]
    names = [package.file_name[: -len(".rpm")] for package in packages]
    named = f"grep 'boot entry .*{new.version} stays in the menu' said"
    stays = replaces and machine.design != _FOLLOWS
    update = _UPDATE.format(old=old.version, names_the_other=named if stays else "")
    machine.boot(update, repository_files([packages[1]]))
    fits = _FITS.format(version=old.version, package=names[0])
    machine.boot(f"{fits}fs-rollback undo --yes")
    expected = names[1] if replaces else f"$(printf '{names[0]}\\n{names[1]}')"
    machine.boot(_FITS.format(version=new.version, package=f'"{expected}"'))


_PREFER = """
[ "$(uname -r)" = {old} ]
dnf --assumeyes upgrade
echo 'preferred {preferred}.conf' >>/boot/efi/loader/loader.conf
fs-rollback check | grep 'default entry.*{preferred}'
fs-rollback rollback --yes
"""


def _preferred(machine: Machine) -> None:
    """What newer systemd-boot is told to prefer outranks the default, and is what changes."""
    newer = newer_loader("usr/lib/systemd/boot/efi/systemd-bootx64.efi")
    machine.disks.write_esp({"EFI/BOOT/BOOTX64.EFI": newer})
    old, new = machine.base.kernels
    packages = [kernel_package(kernel) for kernel in (old, new)]
    prefer = _PREFER.format(old=old.version, preferred=machine.design.entry_id(new.version))
    machine.boot(prefer, repository_files([packages[1]]))
    package = packages[0].file_name[: -len(".rpm")]
    fits = _FITS.format(version=old.version, package=package)
    machine.boot(f"{fits}fs-rollback undo --yes")
    machine.boot(f'[ "$(uname -r)" = {new.version} ]')


def _added(machine: Machine) -> None:
    _back_to_the_old_kernel(machine, replaces=False)


def _replaced(machine: Machine) -> None:
    _back_to_the_old_kernel(machine, replaces=True)


# Where the new one takes the place of the old one, what boots has to be put back first; but in a
# named root with /boot inside, where all of that follows the exchange.
_FOLLOWS = Design(Root.NAMED, Boot.IN_ROOT)
_REPLACED = (
    _FOLLOWS,
    Design(Root.TOP_LEVEL, Boot.IN_ROOT),
    Design(Root.NAMED, Boot.EXT4),
    Design(Root.NAMED, Boot.ESP),
    Design(Root.ORACLE, Boot.SUBVOLUME),
)
STORIES = [
    Story(f"kernel-replaced-{cell.name}", cell, _replaced, rare=cell.boot is not Boot.ESP)
    for cell in _REPLACED
]
# Both stay, and each has its modules: the one that was the default before is it again.
STORIES.append(
    Story("kernel-added-named-boot-ext4", Design(Root.NAMED, Boot.EXT4), _added, rare=True)
)


_ESP = Design(Root.NAMED, Boot.ESP)
STORIES.append(Story("kernel-preferred-named-esp", _ESP, _preferred, rare=True))


@pytest.mark.parametrize("story", wanted(STORIES), ids=str)
def test_kernels(story: Story, telling: Telling) -> None:
    telling.hear(story)
