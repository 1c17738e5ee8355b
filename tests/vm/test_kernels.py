# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel that comes beside the old one, and is rolled back: what boots is one that the root has.

Those that take the place of the old one are in test_matrix.py.
"""

from __future__ import annotations

import pytest

from tests.vm.base import newer_loader
from tests.vm.design import Boot, Design, Root
from tests.vm.kernels import kernel_package
from tests.vm.machine import Machine, repository_files
from tests.vm.stories import Story, Telling, all_wanted

_UPDATE = """
[ "$(uname -r)" = {old} ]
dnf --assumeyes upgrade
fs-rollback rollback --yes
"""

# Modules are loaded on demand, from the directory of the running kernel: ext4 or vfat may be there
# since the start, loop is not.
_FITS = """
[ "$(uname -r)" = {version} ]
modprobe loop
fs-rollback check || [ $? -eq 1 ]
[ "$(rpm -q kernel-core)" = {package} ]
"""


def _added(machine: Machine) -> None:
    old, new = machine.base.kernels
    packages = [kernel_package(kernel) for kernel in (old, new)]
    names = [package.file_name[: -len(".rpm")] for package in packages]
    machine.boot(_UPDATE.format(old=old.version), repository_files([packages[1]]))
    fits = _FITS.format(version=old.version, package=names[0])
    machine.boot(f"{fits}fs-rollback undo --yes --to-replaced")
    both = f"$(printf '{names[0]}\\n{names[1]}')"
    machine.boot(_FITS.format(version=new.version, package=f'"{both}"'))


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
    machine.boot(f"{fits}fs-rollback undo --yes --to-replaced")
    machine.boot(f'[ "$(uname -r)" = {new.version} ]')


STORIES = [
    # Both stay, and each has its modules: the one that was the default before is it again.
    Story("kernel-added-named-boot-ext4", Design(Root.NAMED, Boot.EXT4), _added),
    Story("kernel-preferred-named-esp", Design(Root.NAMED, Boot.ESP), _preferred),
]

# Both are rare: each time there are kernels that take the place of another, in test_matrix.py and
# under GRUB in test_grub.py.
if all_wanted():

    @pytest.mark.parametrize("story", STORIES, ids=str)
    def test_kernels(story: Story, telling: Telling) -> None:
        telling.hear(story)
