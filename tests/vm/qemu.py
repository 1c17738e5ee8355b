# SPDX-License-Identifier: GPL-2.0-or-later
"""One boot of one machine: a QEMU process, its two serial ports, and its control socket."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from . import guest

if TYPE_CHECKING:
    from types import TracebackType

# KVM where it works would be quicker; where these tests are run it does not. One processor: two
# machines beside each other get more done than one with two.
_QEMU = (
    "qemu-system-x86_64", "-accel", "tcg", "-cpu", "Nehalem", "-smp", "1",
    "-m", "1024", "-nodefaults", "-no-user-config", "-display", "none",
    # A machine that restarts ends: the next boot is a new process, which is quicker, and counted.
    "-no-reboot",
)  # fmt: skip

_TAIL_LINES = 40


class LostMachineError(Exception):
    """The machine gave no answer: it did not boot, crashed, hung or was killed."""


class Power:
    """A machine that is switched on; leaving the `with` cuts its power if it is still on.

    `directory` receives console.log and port.log, what the machine wrote to its serial ports.
    """

    def __init__(self, arguments: Sequence[str], directory: Path) -> None:
        self._console = directory / "console.log"
        self._port = directory / "port.log"
        # A socket's path has 108 bytes at most, unix(7): one relative to the directory fits.
        self._socket = "control"
        self._directory = directory
        (directory / self._socket).unlink(missing_ok=True)
        for log in (self._console, self._port):
            log.write_bytes(b"")
        self._errors = (directory / "qemu.log").open("w+")
        self._process = subprocess.Popen(
            [
                # Killed with us: a machine that is left behind would run for ever.
                "setpriv", "--pdeathsig", "KILL", *_QEMU,
                "-serial", f"file:{self._console}", "-serial", f"file:{self._port}",
                "-qmp", f"unix:{self._socket},server=on,wait=off",
                *arguments,
            ],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=self._errors,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip

    def __enter__(self) -> Power:
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self.cut()

    def is_on(self) -> bool:
        """Whether the machine still runs."""
        return self._process.poll() is None

    @property
    def console(self) -> str:
        """What the machine has written to its console so far."""
        return _text(self._console)

    @property
    def output(self) -> str:
        """What the job has written so far, and the answer if it has ended."""
        return _text(self._port)

    def cut(self) -> None:
        """Cut the power: nothing that the machine has not yet given to its disks gets there.

        What it has given to them stays, in that order: the disks are the host's files, without a
        cache of their own. It may be off already.
        """
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self._errors.close()

    def pause(self) -> None:
        """Stop the machine's processors; the disks then hold still too."""
        self._command("stop")

    def resume(self) -> None:
        """Let the machine go on after `pause`."""
        self._command("cont")

    def wait_for(self, text: str, *, timeout_s: float) -> None:
        """Return when the job has written `text`; raises LostMachineError if it never does."""
        deadline = time.monotonic() + timeout_s
        while text not in self.output:
            if not self.is_on():
                raise LostMachineError(self.explain(f"it ended before it wrote {text!r}"))
            if time.monotonic() > deadline:
                raise LostMachineError(self.explain(f"no {text!r} in {timeout_s:.0f} s"))
            time.sleep(0.01)

    def wait_until_off(self, expected: int, *, timeout_s: float) -> guest.Answer:
        """Return the answer of the job when the machine has switched itself off.

        `expected` is the number of the payload. Raises LostMachineError if there is no such answer
        in `timeout_s` seconds, or if the machine does not end after it.
        """
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            raise LostMachineError(
                self.explain(f"it was not off after {timeout_s:.0f} s")
            ) from error
        answer = guest.answer(self.output, expected)
        if answer is None:
            raise LostMachineError(self.explain("it switched off without an answer"))
        return answer

    def explain(self, what: str) -> str:
        """Return `what` with the ends of what the machine wrote, for a person who was not there."""
        parts = [("console", self.console), ("job", self.output)]
        parts.append(("QEMU", _text(self._directory / "qemu.log")))
        tails = (f"--- {name}:\n{_tail(text)}" for name, text in parts if text.strip())
        return "\n".join([f"the machine is lost: {what} ({self._directory})", *tails])

    def _command(self, name: str) -> dict[str, Any]:
        """Send one command of QEMU's machine protocol and return its answer."""
        with socket.socket(socket.AF_UNIX) as connection, connection.makefile("rw") as stream:
            path = f"/proc/self/fd/{os.open(self._directory, os.O_PATH)}"
            try:
                connection.connect(f"{path}/{self._socket}")
            finally:
                os.close(int(Path(path).name))
            stream.readline()  # the greeting
            for command in ("qmp_capabilities", name):
                stream.write(json.dumps({"execute": command}) + "\n")
                stream.flush()
                answer: dict[str, Any] = json.loads(stream.readline())
                while "event" in answer:
                    answer = json.loads(stream.readline())
                if "error" in answer:
                    raise RuntimeError(f"QEMU refuses {command}: {answer['error']}")
        return answer


def disk(path: Path, name: str, *, read_only: bool = False) -> list[str]:
    """Return QEMU's arguments for a disk; the machine finds it as virtio-NAME in by-id."""
    # cache=unsafe: the host itself does not crash, and what QEMU wrote survives QEMU.
    options = f"if=none,id={name},file={path},format=raw,cache=unsafe"
    if read_only:
        options += ",readonly=on"
    return ["-drive", options, "-device", f"virtio-blk-pci,drive={name},serial={name}"]


def _text(path: Path) -> str:
    return path.read_bytes().decode(errors="replace")


def _tail(text: str) -> str:
    return "\n".join(text.rstrip().splitlines()[-_TAIL_LINES:])
