# SPDX-License-Identifier: GPL-2.0-or-later
"""The system's journal: a line sent to it, or to syslog, and what it has of ours."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from ..linux import process

SOCKET = "/run/systemd/journal/socket"
SYSLOG = "/dev/log"
PLACES = ("/run/log/journal", "/var/log/journal")
_IDENTIFIER = "fs-rollback"
_MOST_LINES = 5000
_FACILITY = 3 << 3  # LOG_DAEMON, syslog(3)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def send(message: str, priority: int, fields: Mapping[str, str]) -> None:
    """Send a line with fields of its own; where nobody takes it at once it is lost.

    https://systemd.io/JOURNAL_NATIVE_PROTOCOL. Raises OSError.
    """
    usual = {
        "MESSAGE": message,
        "PRIORITY": str(priority),
        "SYSLOG_IDENTIFIER": _IDENTIFIER,
        "SYSLOG_PID": str(os.getpid()),
    }
    data = b"".join(_encoded(name, value) for name, value in {**usual, **fields}.items())
    try:
        _send(SOCKET, data)
    except (FileNotFoundError, ConnectionRefusedError):  # no journal runs here
        _send(SYSLOG, _as_syslog_has_it(message, priority))


def _encoded(name: str, value: str) -> bytes:
    """Return one field: a value of several lines comes behind its length."""
    data = value.encode("utf-8", "surrogateescape")
    if b"\n" in data:
        return b"%s\n%s%s\n" % (name.encode(), len(data).to_bytes(8, "little"), data)
    return b"%s=%s\n" % (name.encode(), data)


def _as_syslog_has_it(message: str, priority: int) -> bytes:
    """Return a line as syslog(3) writes it to /dev/log, whatever the locale."""
    now = time.localtime()
    moment = f"{_MONTHS[now.tm_mon - 1]} {now.tm_mday:2} {time.strftime('%H:%M:%S', now)}"
    text = " ".join(message.split("\n"))
    line = f"<{_FACILITY | priority}>{moment} {_IDENTIFIER}[{os.getpid()}]: {text}"
    return line.encode("utf-8", "surrogateescape")


def _send(path: str, data: bytes) -> None:
    # The part of socket that is written in C: the rest takes ten times as long to load.
    from _socket import AF_UNIX, SOCK_DGRAM, socket

    sender = socket(AF_UNIX, SOCK_DGRAM)
    try:
        sender.setblocking(False)
        sender.sendto(data, path)
    finally:
        sender.close()


def is_there() -> bool:
    """Whether this machine has a journal."""
    return any(map(os.path.exists, (SOCKET, *PLACES)))


def read(directory: str = "") -> str:
    """Return the newest lines of ours that root has sent, an object in JSON each, the newest last.

    `directory` is where another system's journal lies. Raises ProcessError.
    """
    place = (f"--directory={directory}",) if directory else ()
    # Whoever may log in may send a line in our name, but not as root.
    return process.run(
        (
            "journalctl",
            *place,
            f"--identifier={_IDENTIFIER}",
            "_UID=0",
            "--output=json",
            "--all",
            f"--lines={_MOST_LINES}",
            "--no-pager",
            "--quiet",
        )
    )
