# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine that boots in milliseconds: a btrfs image, a mount and a PID namespace.

No kernel and no boot loader of its own: what a rollback does to those is for the tests in virtual
machines. Everything else is real: the filesystem, the mounts, dnf and rpm with it as their `/`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import btrfsutil

from .base import copy_image
from .engine import Engine
from .namespace import Namespace
from .product import rpms_for

if TYPE_CHECKING:
    from types import TracebackType

    from .layout import Layout

_BOOT = Path(__file__).with_name("boot.sh")


class Sandbox:
    """One machine. It is switched off when entered: `boot` it; leaving the `with` shuts it down.

    The disk is the file disk.img in `directory`; `repository` is the directory that the machine
    sees as /run/repo, the only repository it knows. `command_line` may be changed before a boot.
    """

    def __init__(
        self,
        image: Path,
        layout: Layout,
        directory: Path,
        repository: Path,
        engine: Engine = Engine.DNF4,
    ) -> None:
        self.layout = layout
        self.engine = engine
        self.image = directory / "disk.img"
        self.repository = repository
        self._directory = directory
        self.uuid = copy_image(image, layout, self.image)
        self.command_line = layout.command_line(self.uuid)
        self._stack = ExitStack()
        self._namespace: Optional[Namespace] = None
        self._opened = 0

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self.shutdown()

    def boot(self) -> None:
        """Mount what the command line and the fstab of the root name *now*, and start from there.

        Raises CommandError where a real machine would stop in its initramfs.
        """
        if self._namespace is not None:
            raise RuntimeError("the sandbox is running already")
        with ExitStack() as stack:
            point = stack.enter_context(tempfile.TemporaryDirectory(dir=self._directory))
            namespace = stack.enter_context(Namespace(own_processes=True))
            arguments = (self.image, self.uuid, point, self.repository, self.command_line)
            namespace.run(["sh", os.fspath(_BOOT), *(str(argument) for argument in arguments)])
            self._stack = stack.pop_all()
            self._namespace = namespace

    def shutdown(self) -> None:
        """Kill what runs in the machine and wait until its filesystem is unmounted."""
        self._namespace = None
        self._stack.close()
        if not self._opened:
            self._wait_until_detached()

    def reboot(self) -> None:
        """Shut down, then boot from what is on the disk then."""
        if self._opened:
            raise RuntimeError("the top level is open: the filesystem would stay mounted")
        self.shutdown()
        self.boot()

    def run(
        self,
        argv: Sequence[str],
        *,
        check: bool = True,
        input: Optional[str] = None,
        env: Optional[Mapping[str, str]] = None,
        timeout_s: float = 120.0,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the machine as root; see Namespace.run."""
        return self.running.run(argv, check=check, input=input, env=env, timeout_s=timeout_s)

    def output(self, *argv: str) -> str:
        """Return what a command prints on its standard output; it must succeed."""
        return self.run(argv).stdout

    def install(self, rpms: Sequence[Path]) -> None:
        """Install the command and the plugin for this machine's dnf, of RPM files, with rpm."""
        rpms = rpms_for(self.engine, rpms)
        names = [f"/run/{rpm.name}" for rpm in rpms]
        for rpm, name in zip(rpms, names):
            shutil.copyfile(rpm, self.path(name))
        self.run(["rpm", "--install", *names])
        self.run(["rm", *names])

    def popen(
        self, argv: Sequence[str], *, env: Optional[Mapping[str, str]] = None
    ) -> subprocess.Popen[str]:
        """Start a command in the machine; `signal` is how to send it one."""
        return self.running.popen(argv, env=env)

    def signal(self, process: subprocess.Popen[str], signum: int) -> None:
        """Send a signal to a command that `popen` started, not to nsenter around it."""
        self.running.signal(process, signum)

    @property
    def running(self) -> Namespace:
        """The namespace of the booted machine, for popen with streams of one's own."""
        if self._namespace is None:
            raise RuntimeError("the sandbox is not booted")
        return self._namespace

    def path(self, inside: str) -> Path:
        """Return a path of the test process that leads to a file of the booted machine."""
        return self.running.path(inside)

    @property
    def root_id(self) -> int:
        """The ID of the subvolume that is the root of the booted machine."""
        return btrfsutil.subvolume_id(os.fspath(self.path("/")))

    @property
    def default_id(self) -> int:
        """The ID of the default subvolume."""
        with self.top() as top:
            return btrfsutil.get_default_subvolume(os.fspath(top))

    def subvolumes(self) -> dict[str, int]:
        """Return the ID of each subvolume by its path from the top level."""
        with self.top() as top, btrfsutil.SubvolumeIterator(os.fspath(top)) as iterator:
            return dict(iterator)

    @contextmanager
    def top(self) -> Iterator[Path]:
        """Give a path to the top level, seen by this process only; booted or not.

        Nothing in the machine can see it. Close it before a reboot.
        """
        with tempfile.TemporaryDirectory(dir=self._directory) as point, Namespace() as namespace:
            options = "loop,subvolid=5"
            namespace.run(["mount", "-t", "btrfs", "-o", options, os.fspath(self.image), point])
            self._opened += 1
            try:
                yield namespace.path(point)
            finally:
                self._opened -= 1

    def _wait_until_detached(self, *, timeout_s: float = 10.0) -> None:
        """Return when no loop device has the image; raise TimeoutError if one keeps it."""
        deadline = time.monotonic() + timeout_s
        command = [
            "losetup",
            "--noheadings",
            "--output=NAME",
            "--associated",
            os.fspath(self.image),
        ]
        while True:
            device = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            if not device:
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"{device.strip()} still has {self.image}")
            time.sleep(0.01)
