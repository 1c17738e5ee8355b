# SPDX-License-Identifier: GPL-2.0-or-later
"""Four machines that a playbook updates by ssh; two of them do not come up well, and go back.

The collection is that of packaging/ansible; what its modules do is in tests/packaging. Told where
all is wanted: some minutes of four machines on two processors.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.sandbox.product import CHECKOUT
from tests.sandbox.rpms import Package
from tests.vm.design import Boot, Design, Root
from tests.vm.fleet import Key, Member, copy_of
from tests.vm.machine import Machine, repository_files
from tests.vm.stories import Story, Telling, all_wanted

_ANSWERS_S, _RUN_S = 300.0, 3600.0
_NAMES = ("canary", "well", "boot", "service")
_RUINS = "rm /usr/lib/systemd/systemd\necho garbage >/usr/lib/systemd/systemd\n"
_RUINS += "chmod 755 /usr/lib/systemd/systemd\n"
_UNIT = "[Service]\nExecStart={program}\n[Install]\nWantedBy=multi-user.target\n"
_ENABLED = "mkdir -p /etc/systemd/system/multi-user.target.wants\n"
_ENABLED += (
    "ln -sf /usr/lib/systemd/system/web.service /etc/systemd/system/multi-user.target.wants/\n"
)
_CONFIGURE = "echo 'health_units = web.service' >>/etc/fs-rollback.conf\n"
# The machines have dnf on a system of Debian, which Ansible would look for another one on.
_HERE = {"ansible_host": "127.0.0.1", "ansible_package_use": "dnf"}
# Nor do they have the bus that shutdown(8) wants.
_REBOOT = """\
- ansible.builtin.reboot:
    reboot_command: systemctl start --no-block reboot.target
    reboot_timeout: 900
"""
_LOOK = """\
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.command: sh -c 'app; cat /proc/cmdline'
      register: found
    - ansible.builtin.copy:
        content: "{{ found.stdout }}"
        dest: "{{ out }}/{{ inventory_hostname }}"
      delegate_to: localhost
"""


def _app(version: str, *, program: str = "/usr/bin/sleep infinity", ruins: str = "") -> Package:
    """Return a package with a command, and a service that is started at boot."""
    files: dict[str, str | Path] = {
        "/usr/bin/app": f"#!/bin/sh\necho {version}\n",
        "/usr/lib/systemd/system/web.service": _UNIT.format(program=program),
    }
    return Package("app", version, files=files, scriptlets={"posttrans": _ENABLED + ruins})


_OFFERED = {
    "canary": _app("2"),
    "well": _app("2"),
    "boot": _app("2", ruins=_RUINS),
    "service": _app("2", program="/bin/false"),
}


class Controller:
    """The machine with Ansible: this one."""

    def __init__(self, directory: Path, key: Key, members: Mapping[str, Member]) -> None:
        self._directory = directory
        place = directory / "collections/ansible_collections/fs_rollback/snapshots"
        shutil.copytree(CHECKOUT / "packaging/ansible", place)
        self.playbooks = place / "playbooks"
        lines = [f"{name} ansible_port={member.port}" for name, member in members.items()]
        (directory / "inventory").write_text("\n".join([*lines, "[canaries]", "canary", ""]))
        options = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
        self._environment = {
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(directory / "collections"),
            "ANSIBLE_HOME": str(directory / "home"),
            "ANSIBLE_HOST_KEY_CHECKING": "False",
            "ANSIBLE_PRIVATE_KEY_FILE": str(key.private),
            "ANSIBLE_REMOTE_USER": "root",
            "ANSIBLE_SSH_ARGS": f"-o ControlMaster=auto -o ControlPersist=60s {options}",
            "ANSIBLE_PYTHON_INTERPRETER": "/usr/bin/python3",
            "ANSIBLE_FORKS": str(len(members)),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_TIMEOUT": "60",
        }

    def play(self, playbook: Path, **variables: object) -> tuple[int, str]:
        """Run a playbook; returns its exit code, and what it printed."""
        program = Path(sys.executable).with_name("ansible-playbook")
        command = [
            str(program), "-i", str(self._directory / "inventory"),
            "-e", json.dumps({**_HERE, **variables}), str(playbook),
        ]  # fmt: skip
        done = subprocess.run(
            command, env=self._environment, cwd=self._directory, timeout=_RUN_S,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout

    def found(self) -> dict[str, list[str]]:
        """Return what each machine runs: the version of the package, and its command line."""
        playbook = self._directory / "look.yml"
        playbook.write_text(_LOOK)
        out = self._directory / "found"
        out.mkdir()
        code, printed = self.play(playbook, out=str(out))
        assert code == 0, printed
        return {name: (out / name).read_text().splitlines() for name in _NAMES}


def _updated(machine: Machine) -> None:
    """The run ends with the two on their old roots, the others updated, and the right report."""
    directory = machine.directory
    key = Key.made(directory)
    others = {name: copy_of(machine, directory / name) for name in _NAMES[1:]}
    machines, members = {_NAMES[0]: machine, **others}, {}
    for name, one in machines.items():
        one.boot(_CONFIGURE)
        members[name] = Member(one, key, repository_files([_OFFERED[name]]))
    with ExitStack() as stack:
        for member in members.values():
            stack.enter_context(member.running())
        for member in members.values():
            member.wait(timeout_s=_ANSWERS_S)
        controller = Controller(directory, key, members)
        reboot = directory / "reboot.yml"
        reboot.write_text(_REBOOT)
        variables: dict[str, Any] = {
            "fleet_serial": 3, "fleet_max_fail_percentage": 100,
            "guarded_update_reboot": str(reboot),
        }  # fmt: skip
        code, printed = controller.play(controller.playbooks / "update_fleet.yml", **variables)
        print(printed)
        assert code != 0, "two machines have failed"
        found = controller.found()
        assert {name: lines[0] for name, lines in found.items()} == {
            "canary": "2", "well": "2", "boot": "1", "service": "1",
        }, printed  # fmt: skip
        assert not [name for name, lines in found.items() if "try_" in lines[1]]
        assert printed.count("Reverted: app 2-1 to 1-1") >= 2
        assert "failed to transfer" not in printed, "a machine that reboots is asked again"
        assert "web.service is" in printed
        code, table = controller.play(controller.playbooks / "fleet_table.yml")
        print(table)
        assert code == 0, table
    boots = {name: member.boots for name, member in members.items()}
    assert boots == {"canary": 2, "well": 2, "boot": 4, "service": 4}, printed


STORIES = [Story("fleet", Design(Root.NAMED, Boot.EXT4), _updated, (_app("1"),), long=True)]


if all_wanted():

    @pytest.mark.parametrize("story", STORIES, ids=str)
    def test_fleet(story: Story, telling: Telling) -> None:
        telling.hear(story)
