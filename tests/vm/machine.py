# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine of its own for a test: build it, boot it with a job, look at its disks, boot it again.

    machine = Machine.build(Design(Root.NAMED, Boot.IN_ROOT), directory, base, rpms)
    machine.boot("dnf --assumeyes install app", repository_files(packages))

Each boot is a new QEMU process, and what it starts is decided by the boot loader from what is on
the disks then.
"""

from __future__ import annotations

import secrets
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Optional

from tests.sandbox.rpms import Package, build, publish

from . import guest, loader, qemu
from .base import Base
from .design import Design, Ext4Design
from .disk import Disks
from .ext4 import Ext4Disks

# Eight to fifteen seconds on a machine that does nothing else; that one may be busy.
BOOT_TIMEOUT_S = 300.0

# A job ends at the first command that fails, and says which one that was.
# (Not at one that begins with !, which is why there is `not`.)
_PROLOGUE = """set -eu
not() { code=0; "$@" || code=$?; [ "$code" -eq 1 ]; }
set -x
"""


class JobError(Exception):
    """The machine booted and its job failed: the message has what it printed."""

    def __init__(self, code: int, output: str) -> None:
        super().__init__(f"the job ended with {code}:\n{output}")
        self.code = code
        self.output = output


class Result(NamedTuple):
    """What a boot gave: all that the job printed, and the seconds from power-on to power-off."""

    output: str
    seconds: float


class Machine:
    """One machine; switched off unless `start` is running.

    `boots` has the seconds of each boot so far. `loader` may be replaced between two boots.
    """

    def __init__(self, disks: Disks, base: Base, directory: Path) -> None:
        self.disks = disks
        self.base = base
        self.directory = directory
        self.loader = loader.installed(disks, directory)
        self.boots: list[float] = []
        self._power: Optional[qemu.Power] = None
        self._scrapped = False

    @classmethod
    def build(cls, design: Design, directory: Path, base: Base, rpms: Sequence[Path]) -> Machine:
        """Make the disks of a machine in `directory`, with the RPMs installed on it.

        Raises CalledProcessError when one of the host's tools fails.
        """
        directory.mkdir(parents=True, exist_ok=True)
        disks = (Ext4Disks if isinstance(design, Ext4Design) else Disks)(design, directory)
        disks.create(base, rpms)
        return cls(disks, base, directory)

    @property
    def design(self) -> Design:
        """What kind of machine it is."""
        return self.disks.design

    def boot(
        self,
        job: str,
        files: Optional[Mapping[str, bytes]] = None,
        *,
        attached: Sequence[Path] = (),
        timeout_s: float = BOOT_TIMEOUT_S,
    ) -> Result:
        """Switch the machine on, let it do a job, and return when it is off.

        The job is a shell script that ends at the first command that fails; `files` are in
        /run/job/files then, and repository/ in there is what dnf sees. `attached` are disks of
        other machines, `disks.images`: root.img is /dev/disk/by-id/virtio-attached-root. Raises
        JobError when the job fails, LostMachineError when the machine does not answer, NoBootError
        when its loader finds nothing to start.
        """
        begin = time.monotonic()
        try:
            with self.start(job, files, attached=attached) as (power, answer):
                ended = power.wait_until_off(answer, timeout_s=timeout_s)
        finally:
            seconds = time.monotonic() - begin
            self.boots.append(seconds)
        if ended.code != 0:
            raise JobError(ended.code, ended.output)
        return Result(ended.output, seconds)

    @contextmanager
    def start(
        self,
        job: str,
        files: Optional[Mapping[str, bytes]] = None,
        *,
        attached: Sequence[Path] = (),
    ) -> Iterator[tuple[qemu.Power, int]]:
        """Switch the machine on and give it while it runs, with the answer to be waited for.

        The arguments are those of `boot`. Leaving the `with` cuts the power, if that is still on.
        """
        sent = guest.payload(_PROLOGUE + job, files or {}, token=secrets.randbelow(10**12))
        if self._scrapped:
            raise qemu.LostMachineError("the machine was scrapped: the test run ends")
        directory = self.directory / f"boot{self._next_directory()}"
        directory.mkdir()
        payload = directory / "payload.tar"
        payload.write_bytes(sent.archive)
        arguments = self.loader.arguments(self.disks, directory)
        for path in self.disks.images:
            arguments += qemu.disk(path, path.stem)
        arguments += qemu.disk(payload, "payload", read_only=True)
        for path in attached:
            arguments += qemu.disk(path, f"attached-{path.stem}")
        with qemu.Power(arguments, directory) as power:
            self._power = power
            try:
                yield power, sent.answer
            finally:
                self._power = None

    def scrap(self) -> None:
        """Cut the power if it is on, and let it never be switched on again; from any thread."""
        self._scrapped = True
        if self._power is not None:
            self._power.cut()

    def read_boot_files(self, directory: str) -> dict[str, bytes]:
        """Return the files of a directory in what the loader reads, by name; not while it runs.

        The directory is named as in the running machine: /boot/loader/entries, `design.entries`.
        """
        return self.disks.read_boot_files(directory)

    def _next_directory(self) -> int:
        return 1 + len(list(self.directory.glob("boot[0-9]*")))


def repository_files(packages: Iterable[Package]) -> dict[str, bytes]:
    """Build packages and return the repository of them as files for a job."""
    with tempfile.TemporaryDirectory() as scratch:
        repository = Path(scratch)
        build(packages, repository)
        publish(repository)
        found = (path for path in sorted(repository.rglob("*")) if path.is_file())
        return {f"repository/{path.relative_to(repository)}": path.read_bytes() for path in found}
