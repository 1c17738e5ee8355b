# SPDX-License-Identifier: GPL-2.0-or-later
"""A mount namespace that lives as long as its owner, and commands run inside it.

Nothing mounted here is ever seen by another process of the host, and nothing has to be unmounted:
the kernel does that when the last process of the namespace is gone.
"""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Optional, Union

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

# What a command sees, whatever the environment of the test run is: a virtual environment or a
# locale of the host has no meaning in another root.
ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LC_ALL": "C.UTF-8",
    "TERM": "dumb",
}

# Says its PID, then waits for the end of its standard input, which comes when the owner closes it
# and also when the owner is killed. /proc is still the one of the host, so the PID is as well.
_HOLDER = "cd / && read -r pid rest </proc/self/stat && echo $pid && read -r line"

_PROCESS_STREAM = Union[int, IO[str], None]


class CommandError(subprocess.CalledProcessError):
    """A command failed; says what it printed, which is what a failed test needs."""

    def __str__(self) -> str:
        return f"{super().__str__()}\n{self.stdout or ''}{self.stderr or ''}"


class Namespace:
    """A private copy of the host's mounts, held by a process of its own.

    With `own_processes` it is a PID namespace too: closing it kills everything that runs in it.
    """

    def __init__(self, *, own_processes: bool = False) -> None:
        self._own_processes = own_processes
        self._holder: Optional[subprocess.Popen[str]] = None
        self._pid = 0

    def __enter__(self) -> Namespace:
        unshare = ["unshare", "--mount", "--propagation", "private"]
        if self._own_processes:
            unshare += ["--pid", "--fork", "--kill-child"]
        # A session of its own: Ctrl-C is for the owner, who then closes the namespace in order.
        self._holder = subprocess.Popen(
            [*unshare, "sh", "-c", _HOLDER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._holder.stdout is not None
        assert self._holder.stderr is not None
        line = self._holder.stdout.readline()
        if not line:
            reason = self._holder.stderr.read().strip()
            self.close()
            raise RuntimeError(f"no mount namespace (root is needed): {reason}")
        self._pid = int(line)
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self.close()

    def close(self) -> None:
        """Kill the holder and with it the namespace; everything in it is unmounted on return."""
        if self._holder is None:
            return
        # The holder ignores polite signals when it is PID 1 of its namespace.
        if self._pid and self._holder.poll() is None:
            os.kill(self._pid, signal.SIGKILL)
        # What unshare of util-linux 2.38 complains about when its child is killed goes unread.
        for pipe in (self._holder.stdin, self._holder.stdout, self._holder.stderr):
            if pipe is not None:
                pipe.close()
        self._holder.wait()
        self._holder = None
        self._pid = 0

    def path(self, inside: str) -> Path:
        """Return a path of the test process that leads to `inside` as the namespace sees it.

        A symbolic link with an absolute target would lead back to the host: read such a file with
        `run` instead.
        """
        return Path(f"/proc/{self._require_pid()}/root", inside.lstrip("/"))

    def popen(
        self,
        argv: Sequence[str],
        *,
        env: Optional[Mapping[str, str]] = None,
        stdin: _PROCESS_STREAM = subprocess.DEVNULL,
        stdout: _PROCESS_STREAM = subprocess.PIPE,
        stderr: _PROCESS_STREAM = subprocess.PIPE,
    ) -> subprocess.Popen[str]:
        """Start `argv` inside. Its PID is that of nsenter: use `signal` to send it a signal."""
        enter = ["nsenter", f"--target={self._require_pid()}", "--mount", "--root", "--wd"]
        if self._own_processes:
            enter.append("--pid")
        return subprocess.Popen(
            [*enter, "--", *argv],
            env={**ENVIRONMENT, **(env or {})},
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            text=True,
            start_new_session=True,
        )

    def run(
        self,
        argv: Sequence[str],
        *,
        check: bool = True,
        input: Optional[str] = None,
        env: Optional[Mapping[str, str]] = None,
        timeout_s: float = 120.0,
    ) -> subprocess.CompletedProcess[str]:
        """Run `argv` inside and wait for it; a command that takes too long is killed.

        Raises CommandError when it fails and `check` is true.
        """
        stdin = subprocess.DEVNULL if input is None else subprocess.PIPE
        with self.popen(argv, env=env, stdin=stdin) as process:
            try:
                out, err = process.communicate(input, timeout=timeout_s)
            except BaseException:
                # The command itself, not only nsenter: it holds the pipes that would be waited for.
                self.signal(process, signal.SIGKILL)
                raise
        if check and process.returncode != 0:
            raise CommandError(process.returncode, list(argv), out, err)
        return subprocess.CompletedProcess(list(argv), process.returncode, out, err)

    def signal(self, process: subprocess.Popen[str], signum: int) -> None:
        """Send a signal to the command that `popen` started; nothing happens if it has ended.

        `process.returncode` is then what became of the command: nsenter dies the same death.
        """
        if process.poll() is None:
            target = _only_child(process.pid) if self._own_processes else process.pid
            with suppress(ProcessLookupError):
                os.kill(target, signum)

    def _require_pid(self) -> int:
        if not self._pid:
            raise RuntimeError("the namespace is closed (a sandbox that is not booted?)")
        return self._pid


def _only_child(parent: int) -> int:
    """Return the PID of the process that `parent` forked, or `parent` if it has not forked yet."""
    # Not /proc/PID/task/PID/children: not every kernel is built with it.
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The second field is the name in brackets and may hold spaces: count behind it.
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == parent:
            return int(stat.parent.name)
    return parent
