# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines that run side by side until they are stopped, reached by ssh on the loopback.

A machine that restarts ends its QEMU (qemu.py): here another is started in its place at once, by
what its boot loader finds on its disks then.
"""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from .disk import Disks
from .loader import Loader
from .machine import Machine
from .qemu import LostMachineError

# By hand: what does it for others (networkd, dhclient) is not in these machines.
_SERVICE = """\
[Unit]
Description=The network and the server of ssh
DefaultDependencies=no
After=sysinit.target
Before=multi-user.target

[Service]
ExecStartPre=/sbin/modprobe virtio_net
ExecStartPre=/usr/bin/udevadm settle
ExecStartPre=/usr/bin/busybox ifconfig lo 127.0.0.1 up
ExecStartPre=/usr/bin/busybox ifconfig eth0 10.0.2.15 netmask 255.255.255.0 up
ExecStartPre=/usr/bin/mkdir -p /run/sshd
ExecStart=/usr/sbin/sshd -D
"""
_PREPARE = """
ssh-keygen -A >/dev/null
mkdir -p -m 0700 /root/.ssh
cp files/key.pub /root/.ssh/authorized_keys
cp files/fleet.service /etc/systemd/system/
ln -s ../fleet.service /etc/systemd/system/multi-user.target.wants/
"""
_STOPS_S, _LOOK_S = 60.0, 0.2


class Key(NamedTuple):
    """A key of ssh that lets into the machines."""

    private: Path

    @classmethod
    def made(cls, directory: Path) -> Key:
        """Make one in a directory."""
        path = directory / "key"
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
        subprocess.run(command, check=True)
        return cls(path)

    @property
    def public(self) -> bytes:
        """What the machines are given."""
        return self.private.with_suffix(".pub").read_bytes()


def copy_of(machine: Machine, directory: Path) -> Machine:
    """Return another machine like one that is off, to the last byte of its disks."""
    directory.mkdir()
    disks = Disks(machine.design, directory)
    disks.uuids = machine.disks.uuids
    for path in machine.disks.images:
        command = ["cp", "--reflink=auto", "--sparse=auto", str(path), str(directory)]
        subprocess.run(command, check=True)
    return Machine(disks, machine.base, directory)


class _WithNetwork:
    """A loader of a machine whose port of ssh is one of the host's loopback."""

    def __init__(self, loader: Loader, port: int) -> None:
        self._loader = loader
        self._port = port

    def arguments(self, disks: Disks, directory: Path) -> list[str]:
        """Return the arguments for a boot; see loader.Loader."""
        forward = f"user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{self._port}-:22"
        network = ["-netdev", forward, "-device", "virtio-net-pci,netdev=net"]
        return [*self._loader.arguments(disks, directory), *network]


class Member:
    """A machine of the fleet; `boots` counts how often it was switched on while it ran."""

    def __init__(self, machine: Machine, key: Key, files: Mapping[str, bytes]) -> None:
        self.machine = machine
        self.port = _free_port()
        self.boots = 0
        self._files = files
        self._stops = threading.Event()
        service = {"key.pub": key.public, "fleet.service": _SERVICE.encode()}
        machine.boot(_PREPARE, service)
        machine.loader = _WithNetwork(machine.loader, self.port)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._stops.is_set():
            self.boots += 1
            with self.machine.start("sleep 86400", self._files) as (power, _):
                while power.is_on() and not self._stops.is_set():
                    time.sleep(_LOOK_S)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Switch it on, and again whenever it ends; cut its power at the end."""
        self._thread.start()
        try:
            yield
        finally:
            self._stops.set()
            self._thread.join(_STOPS_S)

    def wait(self, *, timeout_s: float) -> None:
        """Return when its server of ssh answers. Raises LostMachineError."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
                    connection.settimeout(5)
                    if connection.recv(3) == b"SSH":
                        return
            except OSError:  # it is on its way
                pass
            time.sleep(1)
        raise LostMachineError(f"no answer of ssh in {timeout_s:.0f} s ({self.machine.directory})")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
