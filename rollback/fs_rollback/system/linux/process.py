# SPDX-License-Identifier: GPL-2.0-or-later
"""Starts processes, for the whole package: from argument lists, never with a shell."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from typing import TYPE_CHECKING, Callable

from ...errors import ProcessError

if TYPE_CHECKING:
    import subprocess

# Told what happens while something takes its time, a line at a time.
Say = Callable[[str], object]
# What dnf 5 runs before a transaction, with its own PID: plugin/dnf5.
HOOK = "/usr/libexec/fs-snapshot-dnf5"
_MOST_CHARACTERS = 100
_LONGEST = 1 << 16  # of a line: what runs wild may print no end of one
_LOOKED_AT_MS = 1000
_KILLED_S = 1.0  # SIGKILL takes no time, unless it waits for a disk


def _environment() -> dict[str, str]:
    """The caller's with the C locale: what is printed is read."""
    return {**os.environ, "LC_ALL": "C.UTF-8"}


def run(
    arguments: Sequence[str],
    *,
    pass_fds: Sequence[int] = (),
    with_errors: bool = False,
) -> str:
    """Run a program to its end and return what it printed, `with_errors` on stderr too.

    The environment is the caller's with the C locale. Raises ProcessError with the last line it
    wrote to stderr.
    """
    import subprocess

    try:
        done = subprocess.run(
            list(arguments),
            check=False,
            capture_output=True,
            env=_environment(),
            pass_fds=pass_fds,
            stdin=subprocess.DEVNULL,
        )
    except OSError as error:
        raise ProcessError(f"cannot start {arguments[0]}: {error.strerror}") from error
    if done.returncode:
        raise _failed(arguments[0], done.returncode, done.stderr)
    printed = done.stdout + (done.stderr if with_errors else b"")
    return printed.decode("utf-8", "surrogateescape")


def _failed(program: str, code: int, printed: bytes) -> ProcessError:
    said = printed.decode("utf-8", "replace").strip().splitlines()
    # mount(8) adds where to look, indented.
    said = [line for line in said if not line.startswith(" ")] or said
    return ProcessError(f"{program} failed: {said[-1] if said else f'exit code {code}'}")


@contextmanager
def answering(arguments: Sequence[str], patience_s: float) -> Iterator[Callable[[], str]]:
    """Run a program in the background; the yielded function waits for its end, as `run` does.

    It waits at most `patience_s` seconds, then raises ProcessError. A program that is still running
    at the end of the block is killed.
    """
    import subprocess

    with ExitStack() as stack:
        # In memory: a disk may be full.
        printed, said = (
            stack.enter_context(os.fdopen(os.memfd_create(name), "w+b"))
            for name in ("stdout", "stderr")
        )
        try:
            running = subprocess.Popen(
                list(arguments),
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=said,
                env=_environment(),
                start_new_session=True,
            )
        except OSError as error:  # raised when its answer is asked for
            failed = ProcessError(f"cannot start {arguments[0]}: {error.strerror}")

            def cannot() -> str:
                raise failed

            yield cannot
            return

        def answer() -> str:
            try:
                code = running.wait(patience_s)
            except subprocess.TimeoutExpired as error:
                late = f"{arguments[0]} has not ended after {patience_s:.0f} seconds"
                raise ProcessError(late) from error
            for file in (printed, said):
                file.seek(0)
            if code:
                raise _failed(arguments[0], code, said.read())
            return printed.read().decode("utf-8", "surrogateescape")

        try:
            yield answer
        finally:
            running.kill()
            running.wait()


def feed(arguments: Sequence[str], text: str) -> bool:
    """Run a program on this terminal with `text` as its input; return whether it could be started.

    It need not read all of it. less(1) is set to exit at once if the text fits, to show colors, and
    to start no programs (as "!" would): sudo(8) may allow somebody this command and no shell.
    """
    import subprocess

    environment = {"LESS": "FRX", **os.environ, "LESSSECURE": "1"}
    try:
        running = subprocess.Popen(list(arguments), stdin=subprocess.PIPE, env=environment)
    except OSError:  # as promised
        return False
    while True:
        # Ctrl-C is for the pager, which goes on; the reader may have left in the middle.
        with suppress(KeyboardInterrupt, BrokenPipeError):
            running.communicate(text.encode("utf-8", "surrogateescape"))
        if running.poll() is not None:
            return True


def ask(arguments: Sequence[str], *, timeout_s: float) -> tuple[int, str]:
    """Run a program that may fail, or hang in the kernel; return its exit code and what it printed.

    Raises ProcessError if it cannot be started or does not end in time. Then it is killed, and left
    behind if it hangs where signals do not reach it.
    """
    import subprocess

    try:
        running = subprocess.Popen(
            list(arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(),
        )
    except OSError as error:
        raise ProcessError(f"cannot start {arguments[0]}: {error.strerror}") from error
    try:
        printed, _ = running.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        running.kill()
        if running.stdout is not None:
            running.stdout.close()
        with suppress(subprocess.TimeoutExpired):  # as promised: it is left behind
            running.wait(_KILLED_S)
        raise ProcessError(f"{arguments[0]} did not answer in {timeout_s:.0f} seconds") from error
    return running.returncode, printed.decode("utf-8", "surrogateescape")


def watch(
    arguments: Sequence[str],
    heard: Say = str,
    *,
    pass_fds: Sequence[int] = (),
) -> tuple[int, str]:
    """Run a program to its end, giving each line that it prints to `heard` as it comes.

    Standard error is among them; a line ends where a terminal would begin anew, with a carriage
    return too. In a session of its own: what is typed at a terminal does not reach it. Signals that
    are held back here (execute) are so there too: what must be finished is not ended by the
    SIGTERM that everything gets at shutdown, only by SIGKILL. Of a line without an end the last
    part is given. What it leaves behind is not waited for. Returns the exit code (negative: the
    signal that ended it) and why it failed: the last line that speaks of an error, or the last one.
    What `heard` raises ends the program, SIGKILL, and is raised. Raises ProcessError where it
    cannot be started.
    """
    import subprocess

    try:
        running = subprocess.Popen(
            list(arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=_environment(),
            pass_fds=pass_fds,
            start_new_session=True,
            # SIGPIPE stays ignored, as Python has it: it goes on where nobody reads any more.
            restore_signals=False,
        )
    except OSError as error:
        raise ProcessError(f"cannot start {arguments[0]}: {error.strerror}") from error
    last, rest, failure = "", "", ""
    with running, _killed_with_us(running):
        while data := _printed(running):
            *lines, rest = re.split(r"[\r\n]+", rest + data.decode("utf-8", "replace"))
            for line in filter(None, map(str.strip, lines)):
                last = line
                failure = line if "ERROR" in line else failure
                heard(line)
            rest = rest[-_LONGEST:]
        if rest.strip():
            last = rest.strip()
            heard(last)
    return running.returncode, failure or last


def _printed(running: subprocess.Popen[bytes]) -> bytes:
    """Return what a program prints next, nothing at its end.

    What it has left behind, a daemon, may hold its pipe for ever.
    """
    import select

    assert running.stdout is not None, "it is a pipe"
    waits = select.poll()
    waits.register(running.stdout, select.POLLIN)
    while True:
        has_ended = running.poll() is not None
        if waits.poll(0 if has_ended else _LOOKED_AT_MS):
            return os.read(running.stdout.fileno(), 1 << 16)
        if has_ended:
            return b""


@contextmanager
def _killed_with_us(running: subprocess.Popen[bytes]) -> Iterator[None]:
    try:
        yield
    except BaseException:
        running.kill()
        raise


@contextmanager
def beside(arguments: Sequence[str]) -> Iterator[None]:
    """Run a program in the background during the block; ignore it if it cannot be started."""
    import subprocess

    try:
        running = subprocess.Popen(
            list(arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError:  # as promised: it is left out
        yield
        return
    try:
        yield
    finally:
        running.kill()  # it may have been started where SIGTERM is held back
        running.wait()


def name_of(number: str) -> str:
    """Return the name of a running process, proc_pid_comm(5)."""
    try:
        with open(f"/proc/{number}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:  # it is for a message only
        return "gone or elsewhere"


def lock_holder(descriptor: int) -> str:
    """Return a phrase on which process has the flock(2) of an open file, as far as /proc shows.

    The process that is named by proc_locks(5) may have left it to a child. A process in another PID
    namespace is not shown, and not every line there is about this file: inode numbers repeat in
    each subvolume, and the device is that of the filesystem.
    """
    file = os.fstat(descriptor)
    for number in (*_named_in_locks(file.st_ino), *filter(str.isdigit, os.listdir("/proc"))):
        with suppress(OSError):  # it has ended, or is not shown
            if _has_lock(number, file):
                return _described(_waits_for(number) or number)
    return "a process that /proc does not show, perhaps in a container"


def _named_in_locks(inode: int) -> list[str]:
    # Only where to look first.
    with suppress(OSError), open("/proc/locks", encoding="ascii") as file:
        lines = [line.split() for line in file]
        return [f[4] for f in lines if f[1] == "FLOCK" and f[5].endswith(f":{inode}")]
    return []


def _has_lock(number: str, file: os.stat_result) -> bool:
    """Whether a process has the lock through one of its own descriptors. Raises OSError."""
    return _has_open(
        number,
        file,
        lambda line: line.startswith("lock:") and f":{file.st_ino} " in line and "FLOCK" in line,
    )


def has_open(directory: str) -> str:
    """Return a phrase on which other process has a directory open, "" if /proc shows none.

    Raises OSError if it is not there.
    """
    file = os.stat(directory)
    for number in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):  # it has ended, or is not shown
            is_other = number != str(os.getpid())
            if is_other and _has_open(number, file, f"ino:\t{file.st_ino}\n".__eq__):
                return _described(number)
    return ""


def _has_open(number: str, file: os.stat_result, fits: Callable[[str], bool]) -> bool:
    """Whether a process has a descriptor of a file, of which a line in /proc fits."""
    for descriptor in os.listdir(f"/proc/{number}/fdinfo"):
        path = f"/proc/{number}/fdinfo/{descriptor}"
        with open(path, encoding="utf-8", errors="replace") as told:
            is_like_it = any(map(fits, told))
        # Only then: what is asked of a file on a dead server never comes back.
        if is_like_it:
            found = os.stat(f"/proc/{number}/fd/{descriptor}")
            if (found.st_dev, found.st_ino) == (file.st_dev, file.st_ino):
                return True
    return False


def _waits_for(number: str) -> str:
    """Return the PID of the dnf 5 for which a child of its hook has the lock; "" if it is none."""
    with open(f"/proc/{number}/cmdline", encoding="utf-8", errors="replace") as file:
        words = file.read().split("\0")
    if HOOK not in words[:-2]:
        return ""
    dnf = words[words.index(HOOK) + 1]
    return dnf if dnf.isdigit() and os.path.exists(f"/proc/{dnf}") else ""


def _described(number: str) -> str:
    """Return what can be told of a process: its name, since when it runs, its command line."""
    text = f"process {number} ({name_of(number)})"
    with suppress(OSError, ValueError, LookupError):  # it has ended: said without
        text += f", running since {_begin(number):%Y-%m-%d %H:%M}"
    with suppress(OSError):  # it has ended
        with open(f"/proc/{number}/cmdline", encoding="utf-8", errors="replace") as file:
            words = " ".join(file.read().replace("\0", " ").split())
        text += f": {words[:_MOST_CHARACTERS]}" if words else ""
    return "".join(character if character.isprintable() else "?" for character in text)


def _begin(number: str) -> datetime:
    """Return when a process was started, local time. Raises OSError, ValueError, LookupError."""
    with open(f"/proc/{number}/stat", encoding="utf-8", errors="replace") as file:
        ticks = int(file.read().rpartition(")")[2].split()[19])  # the name before it may hold any
    with open("/proc/stat", encoding="ascii") as file:
        boot = dict(line.split()[:2] for line in file)["btime"]
    return datetime.fromtimestamp(int(boot) + ticks / os.sysconf("SC_CLK_TCK")).astimezone()
