# SPDX-License-Identifier: GPL-2.0-or-later
"""What is read of a machine, against what other tools say."""

from __future__ import annotations

import os

from fs_rollback.system import files, host, syscalls
from tests.kernel.machine import Machine, run


def test_the_device_and_the_uuid_are_those_that_other_tools_see(named: Machine) -> None:
    with files.opened(str(named.root)) as descriptor:
        device = syscalls.device_path(descriptor)
        assert syscalls.filesystem_uuid(descriptor) == named.uuid
    assert run("findmnt", "-n", "-o", "SOURCE", str(named.root)).startswith(device)


def test_nothing_shows_in_the_mount_table_and_nothing_is_left(named: Machine) -> None:
    def table() -> str:
        with open("/proc/self/mountinfo", encoding="utf-8") as file:
            return file.read()

    before, descriptors = table(), os.listdir("/proc/self/fd")
    with host.opened(str(named.root)) as machine:
        assert table() == before
        assert sorted(os.listdir(machine.top)) == ["home", "root"]
    assert table() == before
    assert os.listdir("/proc/self/fd") == descriptors
