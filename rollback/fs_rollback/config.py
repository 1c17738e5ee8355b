# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads fs-rollback.conf: one `key = value` a line, `#` begins a comment line.

One row per key drives the parser, its messages and, through a test, the shipped file.
"""

from __future__ import annotations

import os
from typing import Any, Callable, NamedTuple

from .core.retention import Policy
from .errors import ConfigError

PATH = "/etc/fs-rollback.conf"


class Config(NamedTuple):
    """What the administrator wants; the values here are the defaults."""

    on_failure: str = "abort"
    post_snapshot: bool = False
    keep_last: int = 20
    keep_days: int = 30
    keep_replaced_days: int = 14
    keep: tuple[str, ...] = ("/home", "/root", "/srv", "/var/log")
    boot_entries: int = 2
    check_before: bool = False

    @property
    def policy(self) -> Policy:
        """What retention needs of it."""
        return Policy(self.keep_last, self.keep_days, self.keep_replaced_days)


class _Setting(NamedTuple):
    allowed: str
    parse: Callable[[str], Any]


def _choice(text: str) -> str:
    if text not in ("abort", "warn"):
        raise ValueError(text)
    return text


def _boolean(text: str) -> bool:
    return {"yes": True, "no": False}[text]


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError(text)
    return min(int(text), 36500)


def _paths(text: str) -> tuple[str, ...]:
    paths = text.split()
    if any(path.endswith(",") for path in paths):
        raise ValueError(text)  # "/home, /root" would keep neither /home nor say so
    return tuple(checked_path(path) for path in paths)


def checked_path(path: str) -> str:
    """Return an absolute path in its shortest form. Raises ValueError for any other."""
    if not path.startswith("/") or ".." in path.split("/"):
        raise ValueError(path)
    return "/" + os.path.normpath(path).lstrip("/")


SETTINGS = {
    "on_failure": _Setting("abort or warn", _choice),
    "post_snapshot": _Setting("yes or no", _boolean),
    "keep_last": _Setting("a whole number, 0 or more", _number),
    "keep_days": _Setting("a whole number of days, 0 or more", _number),
    "keep_replaced_days": _Setting("a whole number of days, 0 or more", _number),
    "keep": _Setting("absolute paths with blanks between them, or nothing", _paths),
    "boot_entries": _Setting("a whole number of snapshots, 0 or more", _number),
    "check_before": _Setting("yes or no", _boolean),
}


class BrokenConfigError(ConfigError):
    """A file that cannot be used. `usable` holds what could be read of it."""

    def __init__(self, message: str, *, hint: str, usable: Config) -> None:
        super().__init__(message, hint=hint)
        self.usable = usable


def parse(text: str, path: str) -> Config:
    """Read a configuration. Raises BrokenConfigError naming file, line, key and what is allowed."""
    values: dict[str, Any] = {}
    problems: list[tuple[str, str]] = []
    for number, line in enumerate(text.split("\n"), start=1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        key, equals, value = (part.strip() for part in stripped.partition("="))
        where = f"{path} line {number}"
        if not equals:
            problems.append((f"{where} is not 'key = value': {stripped!r}", "Correct the line."))
        elif key not in SETTINGS:
            known = f"Keys are: {', '.join(SETTINGS)}."
            problems.append((f"{where}: unknown key {key!r}", known))
        else:
            try:
                values[key] = SETTINGS[key].parse(value)
            except (ValueError, KeyError):
                allowed = f"Allowed: {SETTINGS[key].allowed}."
                problems.append((f"{where}: {key} cannot be {value!r}", allowed))
    config = Config(**values)
    if problems:
        message = "; ".join(problem for problem, _ in problems)
        raise BrokenConfigError(message, hint=problems[0][1], usable=config)
    return config


def read() -> Config:
    """Read the configuration of the running system; the defaults where it has none.

    Raises BrokenConfigError.
    """
    try:
        with open(PATH, encoding="utf-8") as file:
            text = file.read()
    except FileNotFoundError:
        return Config()
    except (OSError, UnicodeDecodeError) as error:
        raise BrokenConfigError(
            f"{PATH} cannot be read: {error}", hint="Correct or remove it.", usable=Config()
        ) from error
    return parse(text, PATH)
