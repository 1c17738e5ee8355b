# SPDX-License-Identifier: GPL-2.0-or-later
"""Parses fs-rollback.conf: one `key = value` a line, `#` begins a comment line.

One row per key drives the parser, its messages and, through a test, the shipped file. The file is
read in system/machine/configuration.py, for every command and plugin alike.
"""

from __future__ import annotations

import codecs
import re
from typing import Any, Callable, NamedTuple

from .core import closest
from .core.formats.mountinfo import checked_path
from .core.snapshots.retention import Policy
from .core.snapshots.space import Amount, amount
from .errors import ConfigError

PATH = "/etc/fs-rollback.conf"
# What rpm and dnf allow in a name, and the patterns of a shell.
_PACKAGE = re.compile(r"[A-Za-z0-9_.+*?\[\]!-]+")
# systemd.unit(5); not at the beginning a dash, which would be an option, and no template.
_UNIT = re.compile(r"(?!.*@(\.|$))[A-Za-z0-9:_.\\@][A-Za-z0-9:_.\\@-]*")
_SEPARATED = re.compile(r"[,;:](/|$)")
_MOST_CHARACTERS = 60
_MOST_PROBLEMS = 5


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
    keep_important: int = 5
    important_packages: tuple[str, ...] = ()
    min_free: Amount = Amount()
    guard: str = "no"
    guard_then: str = "rollback"
    guard_reboot: bool = True
    health_units: tuple[str, ...] = ()

    @property
    def policy(self) -> Policy:
        """What retention needs of it."""
        return Policy(
            self.keep_last,
            self.keep_days,
            self.keep_replaced_days,
            self.keep_important,
            self.important_packages,
            self.min_free,
        )


class _Setting(NamedTuple):
    allowed: str
    parse: Callable[[str], Any]


def _choice(*allowed: str) -> _Setting:
    def parse(text: str) -> str:
        if text not in allowed:
            raise ValueError(text)
        return text

    return _Setting(" or ".join(allowed), parse)


def _boolean(text: str) -> bool:
    return {"yes": True, "no": False}[text]


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError(text)
    return min(int(text), 36500)


def _paths(text: str) -> tuple[str, ...]:
    paths = text.split()
    if any(_SEPARATED.search(path) for path in paths):
        raise ValueError(text)  # "/home, /root" would keep neither /home nor say so
    return tuple(checked_path(path) for path in paths)


def _packages(text: str) -> tuple[str, ...]:
    names = tuple(text.split())
    if not all(map(_PACKAGE.fullmatch, names)):
        raise ValueError(text)
    return names


def _units(text: str) -> tuple[str, ...]:
    names = tuple(text.split())
    if not all(map(_UNIT.fullmatch, names)):
        raise ValueError(text)
    return names


SETTINGS = {
    "on_failure": _choice("abort", "warn"),
    "post_snapshot": _Setting("yes or no", _boolean),
    "keep_last": _Setting("a whole number, 0 or more", _number),
    "keep_days": _Setting("a whole number of days, 0 or more", _number),
    "keep_important": _Setting("a whole number, 0 or more", _number),
    "important_packages": _Setting(
        "package names or patterns separated by blanks, or nothing", _packages
    ),
    "min_free": _Setting("a share like 10%, a size like 5G, or 0", amount),
    "keep_replaced_days": _Setting("a whole number of days, 0 or more", _number),
    "keep": _Setting("absolute paths separated by blanks, or nothing", _paths),
    "boot_entries": _Setting("a whole number of snapshots, 0 or more", _number),
    "check_before": _Setting("yes or no", _boolean),
    "guard": _choice("no", "updates", "always"),
    "guard_then": _choice("rollback", "stay"),
    "guard_reboot": _Setting("yes or no", _boolean),
    "health_units": _Setting("unit names separated by blanks, or nothing", _units),
}


class BrokenConfigError(ConfigError):
    """A file that cannot be used. `usable` holds what could be read of it."""

    def __init__(self, message: str, *, hint: str, usable: Config) -> None:
        super().__init__(message, hint=hint)
        self.usable = usable


def decoded(data: bytes) -> str:
    """Return the text of a file in UTF-8, or in UTF-16 if it begins with the mark of that.

    Bytes that are not UTF-8 come as surrogates: a comment in Latin-1 is no reason to stop dnf, and
    a path of such bytes leads where it should.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", "replace")
    return data.decode("utf-8", "surrogateescape")


def parse(text: str, path: str) -> Config:
    """Read a configuration. Raises BrokenConfigError naming file, line, key and what is allowed."""
    values: dict[str, Any] = {}
    problems: list[tuple[str, str]] = []
    for number, line in enumerate(_lines(text), start=1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        key, equals, value = (part.strip() for part in stripped.partition("="))
        where = f"{path} line {number}"
        if not equals:
            problems.append(
                (
                    f"{where} is not 'key = value': {_quoted(line)}",
                    "Correct the line.",
                )
            )
        elif key not in SETTINGS:
            meant = closest.question(closest.closest(key, SETTINGS))
            known = f"{meant} Keys are: {', '.join(SETTINGS)}.".lstrip()
            problems.append((f"{where}: unknown key {_quoted(key)}", known))
        else:
            try:
                values[key] = SETTINGS[key].parse(value)
            except (ValueError, KeyError):  # raised with all others below
                allowed = f"Allowed: {SETTINGS[key].allowed}."
                if "#" in value:
                    allowed += " A comment needs a line of its own."
                problems.append((f"{where}: {key} cannot be {_quoted(value)}", allowed))
    config = Config(**values)
    if problems:
        told = [problem for problem, _ in problems[:_MOST_PROBLEMS]]
        if len(problems) > _MOST_PROBLEMS:
            told.append(f"and {len(problems) - _MOST_PROBLEMS} more lines")
        message = "; ".join(told)
        raise BrokenConfigError(message, hint=problems[0][1], usable=config)
    return config


def _lines(text: str) -> list[str]:
    """Return the lines, whichever system's editor ended them, without marks of byte order.

    Such a mark is invisible, and stands in the middle where files were joined.
    """
    return text.replace("\ufeff", "").replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _quoted(text: str) -> str:
    """Return what is wrong as a message can show it; a file can hold anything."""
    shown = text.strip()
    return repr(shown if len(shown) <= _MOST_CHARACTERS else f"{shown[:_MOST_CHARACTERS]}...")
