# SPDX-License-Identifier: GPL-2.0-or-later
"""What a snapshot was taken for, and what an old root is, in long and short words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Callable, NamedTuple

from .replaced_by import ReplacedBy
from .snapshot import Snapshot

# Options of dnf 4 (dnf/cli/option_parser.py of 4.24) and of dnf 5 (dnf5(8) of 5.4) whose value may
# be the next word. Of an option that is not here only the word itself is left out.
_WITH_VALUE = (
    " -c -d -e -R -x --advisories --advisory --advisory-severities --bz --bzs --color --comment"
    " --config --cve --cves --debuglevel --destdir --disable-plugin --disable-repo"
    " --disableexcludepkgs --disableexcludes --disableplugin --disablerepo --downloaddir"
    " --enable-plugin --enable-repo --enableplugin --enablerepo --errorlevel --exclude"
    " --excludepkgs --forcearch --from-repo --from-vendor --installroot --randomwait --releasever"
    " --repo --repofrompath --repoid --rpmverbosity --sec-severity --secseverity --setopt --setvar "
)


class View(NamedTuple):
    """What is needed to describe a snapshot in words.

    `called` is what to call each snapshot that exists, by name; one that is gone has only its name.
    `clock` words a moment, `running` is the ID of the running root.
    """

    called: Mapping[str, str]
    clock: Callable[[datetime], str]
    running: int = 0

    def purpose(self, snapshot: Snapshot) -> list[str]:
        """Return what a snapshot is for, in full and, where that can be, in fewer words."""
        record = snapshot.record
        if record is None:
            return [snapshot.problem]
        if record.replaced_by is not None and not record.description:
            is_running = snapshot.exists and snapshot.id == self.running
            until = "" if is_running else self.clock(record.created)
            return self._set_aside(record.replaced_by, until)
        if record.description or record.transaction is None:
            return [record.description]
        words = record.transaction.command_line
        return [typed(words), typed_in_short(words)]

    def _set_aside(self, replaced_by: ReplacedBy, until: str) -> list[str]:
        """Return what an old root is; `until` is when it was set aside, "" where it still runs."""
        target = self.called.get(replaced_by.name, replaced_by.name)
        system = f"the system until {until}" if until else "the running system"
        given_up = ", which was given up" if replaced_by.given_up else ""
        short = f"set aside by the rollback to {target}"
        shorter = f"until rollback to {target}"
        return [f"{system}, {short}{given_up}", short, f"root {shorter}", shorter]

    def came_up(self, replaced_by: ReplacedBy) -> str:
        """Return what became of the root that a rollback made."""
        if replaced_by.confirmed is not None:
            return f"first booted {self.clock(replaced_by.confirmed)}"
        if replaced_by.given_up:
            return "never booted; the rollback was given up"
        return "not booted yet"


def typed(words: Sequence[str]) -> str:
    """Return a command line as one would type it."""
    if any(" " in word for word in words):
        import shlex

        words = [shlex.quote(word) if " " in word else word for word in words]
    return " ".join(words)


def typed_in_short(words: Sequence[str]) -> str:
    """Return what matters of a command line: the program, what it does, and to what."""
    return typed(list(_without_options(iter(words))))


def _without_options(words: Iterator[str]) -> Iterator[str]:
    for word in words:
        if word == "--":
            yield from words
        elif f" {word} " in _WITH_VALUE:
            next(words, None)
        elif not word.startswith("-"):
            yield word
