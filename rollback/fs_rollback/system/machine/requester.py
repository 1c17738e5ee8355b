# SPDX-License-Identifier: GPL-2.0-or-later
"""Who asked for what is done, and with which command line."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence


def requested_by(environment: dict[str, str]) -> str:
    """Return who asked for this: the login behind sudo and su, as the kernel's audit knows it."""
    import pwd

    number = _login_uid()
    if number is None and environment.get("SUDO_USER"):
        return environment["SUDO_USER"]
    uid = os.getuid() if number is None else number
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:  # a user without an entry has a number
        return str(uid)


def _login_uid() -> int | None:
    """Return /proc/self/loginuid, None where nobody has logged in (4294967295)."""
    try:
        with open("/proc/self/loginuid", encoding="ascii") as file:
            number = int(file.read())
    except (OSError, ValueError):  # a kernel without audit: nobody is known to have logged in
        return None
    return None if number == 0xFFFFFFFF else number


def command_line(arguments: Sequence[str]) -> tuple[str, ...]:
    """Return a command line fit for a record: the program's name without its directory."""
    return (os.path.basename(arguments[0]), *arguments[1:]) if arguments else ()


def of_process() -> tuple[str, str]:
    """Return who started this process, and its command line in one line."""
    return requested_by(dict(os.environ)), in_one_line(command_line(sys.argv))


def in_one_line(words: Sequence[str]) -> str:
    """Return a command line as one would type it, more or less."""
    return " ".join(f"'{word}'" if " " in word else word for word in words)
