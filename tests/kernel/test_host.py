# SPDX-License-Identifier: GPL-2.0-or-later
"""What is read of a machine, against what other tools say."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fs_rollback.system.linux import files, syscalls
from fs_rollback.system.machine import host
from tests.kernel.machine import Machine, run


def test_the_device_and_the_uuid_are_those_that_other_tools_see(named: Machine) -> None:
    with files.opened(str(named.root)) as descriptor:
        [device] = syscalls.device_paths(descriptor).values()
        assert syscalls.filesystem_uuid(descriptor) == named.uuid
    assert run("findmnt", "-n", "-o", "SOURCE", str(named.root)).startswith(device)


def test_what_is_only_read_is_as_old_as_before(named: Machine) -> None:
    path = named.root / "etc/fstab"
    os.utime(path, (1, 2))  # read as ever, it would get a new access time
    with host.opened(str(named.root)) as found:
        Path(found.path("root/etc/fstab")).read_bytes()
    assert path.stat().st_atime == 1


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


_RENAMES = """
import os, sys
os.chdir(sys.argv[1])
os.mkdir("one")
print("begun", flush=True)
while True:
    os.rename("one", "two")
    os.rename("two", "one")
"""


def _open_often(root: int, path: str, times: int) -> None:
    for _ in range(times):
        os.close(syscalls.open_in_root(root, path, os.O_RDONLY))


def test_a_file_is_opened_while_others_rename_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """openat2(2) gives up with EAGAIN if anything is renamed anywhere while it resolves ".."."""
    (tmp_path / "busy").mkdir()
    (tmp_path / "a/b/c").mkdir(parents=True)
    (tmp_path / "file").touch()
    path = "a/b/c/../../.." + "/a/b/c/../../.." * 20 + "/file"
    command = [sys.executable, "-c", _RENAMES, str(tmp_path / "busy")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as renaming:
        assert renaming.stdout is not None
        renaming.stdout.readline()
        try:
            with files.opened(str(tmp_path)) as root:
                _open_often(root, path, 2000)
                monkeypatch.setattr(syscalls, "_RACES", 1)
                with pytest.raises(OSError, match=os.strerror(errno.EAGAIN)):
                    _open_often(root, path, 200000)
        finally:
            renaming.kill()
