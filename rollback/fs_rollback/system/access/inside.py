# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs a command in a tree as if that were the system: with systemd-nspawn, or in namespaces."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections.abc import Sequence

from ...errors import Error, kernel_errors
from ..linux import files, namespaces

# systemd.io/CONTAINER_INTERFACE; the first one is what older plugins in the snapshot look for.
MARKS = ("run/systemd/container", "run/host/container-manager")
_NAME = "fs-rollback"
_BUS = "/run/dbus/system_bus_socket"  # sd_bus_default_system(3)
_SHELLS = ("bin/bash", "bin/sh")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_LINKS = {"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2",
          "ptmx": "pts/ptmx"}  # fmt: skip
# What in /proc is the machine's: what root writes there is true for all of it, or reboots it.
_OF_THE_MACHINE = ("sys", "sysrq-trigger", "irq", "bus", "fs", "acpi", "scsi")
# What of it a process could leave its root with; systemd-nspawn takes the rest away itself.
_DROPPED = "CAP_SYS_ADMIN,CAP_MKNOD,CAP_DAC_READ_SEARCH,CAP_SYS_PTRACE"


def uses_nspawn() -> bool:
    """Whether systemd-nspawn can run the command: it is installed, and systemd answers.

    It asks systemd over D-Bus, which does not run in a rescue or emergency shell.
    """
    if not shutil.which("systemd-nspawn") or not os.path.isdir("/run/systemd/system"):
        return False
    with socket.socket(socket.AF_UNIX) as bus:
        return bus.connect_ex(_BUS) == 0


def run(directory: str, name: str, command: Sequence[str]) -> int:
    """Run a command (default: a shell) in a mounted tree; return its exit code.

    It shares the network, the clock and the kernel of this machine, but not its files, devices or
    processes. Raises Error if it cannot be started.
    """
    words = list(command) or [_shell(directory)]
    if uses_nspawn():
        return _in_nspawn(directory, name, words)
    return namespaces.run_inside(words, _environment(), lambda: _become(directory, name))


def _shell(directory: str) -> str:
    with files.opened(directory) as tree:
        found = [path for path in _SHELLS if files.status_of(tree, path) is not None]
    if not found:
        raise Error("the snapshot has no shell", hint="Give a command: fs-rollback shell ID -- ...")
    return f"/{found[0]}"


def _environment() -> dict[str, str]:
    kept = {key: os.environ[key] for key in ("TERM", "LANG", "COLORTERM") if key in os.environ}
    return {**kept, "PATH": _PATH, "HOME": "/root", "container": _NAME}


def _in_nspawn(directory: str, name: str, words: Sequence[str]) -> int:
    is_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    # Beside the tree, in the directory that is mounted for this process only.
    mark = f"{directory}.mark"
    with kernel_errors("write", mark), open(mark, "w", encoding="ascii") as file:
        file.write(_NAME)
    try:
        options = (
            "--quiet", "--register=no", "--settings=no", "--link-journal=no", "--as-pid2",
            f"--directory={directory}", f"--machine={name.replace('_', '-')}",
            f"--console={'interactive' if is_terminal else 'pipe'}",
            f"--drop-capability={_DROPPED}", f"--bind-ro={mark}:/{MARKS[0]}",
        )  # fmt: skip
        return namespaces.run_attached(("systemd-nspawn", *options, "--", *words))
    finally:
        os.unlink(mark)


def _become(directory: str, name: str) -> None:
    """Make a tree the root of this process, which is the first one of its namespaces."""
    tree = f"{directory}/"
    namespaces.mount("proc", f"{tree}proc")
    for path in _OF_THE_MACHINE:
        if os.path.exists(f"{tree}proc/{path}"):
            namespaces.protect(f"{tree}proc/{path}")
    namespaces.mount("sysfs", f"{tree}sys", read_only=True)
    for place, options in (("dev", "mode=755,size=64k"), ("run", "mode=755"), ("tmp", "mode=1777")):
        namespaces.mount("tmpfs", tree + place, options)
    _make_devices(f"{tree}dev")
    for mark in MARKS:
        os.makedirs(os.path.dirname(tree + mark), exist_ok=True)
        with open(tree + mark, "w", encoding="ascii") as file:
            file.write(_NAME)
    namespaces.set_host_name(name)
    namespaces.enter(directory)
    namespaces.give_up_capabilities()


def _make_devices(place: str) -> None:
    for name in _DEVICES:
        os.close(os.open(f"{place}/{name}", os.O_WRONLY | os.O_CREAT, 0o600))
        namespaces.bind(f"/dev/{name}", f"{place}/{name}")
    for name, target in _LINKS.items():
        os.symlink(target, f"{place}/{name}")
    for name in ("pts", "shm"):
        os.mkdir(f"{place}/{name}")
    namespaces.mount("devpts", f"{place}/pts", "newinstance,ptmxmode=0666,mode=620,gid=5")
    namespaces.mount("tmpfs", f"{place}/shm", "mode=1777")
