# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads action files of libdnf5's Actions plugin, to find the action that takes the snapshot.

The format is read as parse_action_files() and split() do it in libdnf5-plugins/actions/actions.cpp
of dnf5 5.2.11 to 5.4.4; libdnf5-actions(8) describes it.
"""

from __future__ import annotations

import re
from typing import NamedTuple, Optional

PROGRAM = "/usr/libexec/fs-snapshot-dnf5"
# dnf 5 skips an action with a variable that it does not know, without a word.
_COMMAND = [PROGRAM, "${pid}"]
_HOOK = ("pre_transaction", "", "")
# Without raise_error dnf 5 goes on where there is no snapshot.
_NEEDED = {"mode": "json", "raise_error": "1"}
_ON_THE_HOST = ("1", "host-only")


class Action(NamedTuple):
    """The number of the line that runs PROGRAM; `is_whole`: it is complete, as shipped."""

    line: int
    is_whole: bool


def find(text: str) -> Optional[Action]:
    """Return the line that runs PROGRAM, an incomplete one if there is any; None without one.

    dnf 5 runs only the first of two with the same command.
    """
    found = None
    for number, line in enumerate(text.split("\n"), start=1):
        fields = line.split(":", 4)
        if line.startswith("#") or len(fields) < 5:
            continue
        command = _words(fields[4])
        if command[:1] == [PROGRAM]:
            is_whole = tuple(fields[:3]) == _HOOK and command == _COMMAND and _runs(fields[3])
            if found is None or (found.is_whole and not is_whole):
                found = Action(number, is_whole)
    return found


def _runs(options: str) -> bool:
    """Whether the options make it an action that can stop dnf 5, on the running system."""
    said = dict(word.partition("=")[::2] for word in _words(options))
    return said.pop("enabled", "1") in _ON_THE_HOST and said == _NEEDED


def _words(text: str) -> list[str]:
    return [word for word in re.split(" +", text.partition("\r")[0]) if word]
