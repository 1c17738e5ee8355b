# SPDX-License-Identifier: GPL-2.0-or-later
"""Names of snapshots, and what a user may write for one."""

from __future__ import annotations

import os
from collections.abc import Container, Sequence
from datetime import datetime, timedelta
from typing import Optional

from ...errors import UsageError
from .. import closest
from ..columns import fitting, width
from ..formats.mountinfo import is_within_any
from .snapshot import STORE, Snapshot

SNAPSHOT_PREFIX = "yum_"
REPLACED_PREFIX = "replaced_"
NEW_ROOT_PREFIX = "root_"
SHELL_PREFIX = "shell_"  # a writable copy of a snapshot, gone with the shell in it
TRIAL_PREFIX = "try_"  # a writable copy of a snapshot, for its entry in the boot menu
# What begins like this in the store is no snapshot.
COPY_PREFIXES = (NEW_ROOT_PREFIX, TRIAL_PREFIX, SHELL_PREFIX)
_IN_STORE = f"/{STORE}/"
_FORMAT = "%Y%m%d%H%M%S"
_MOST_SIMILAR = 3
_LONGEST_ID = 20  # digits of 64 bits
_LONG = 300  # characters of a path, which may have thousands


def free_name(prefix: str, now: datetime, taken: Container[str]) -> str:
    """Return `prefix` and the local time `now` (aware) in seconds, the next free second if taken.

    Local time as in 2010: the name shows what the clock on the wall showed.
    """
    moment = now
    while (name := prefix + moment.strftime(_FORMAT)) in taken:
        moment += timedelta(seconds=1)
    return name


def is_moment(text: str) -> bool:
    """Whether this can be what follows the prefix in a name of ours."""
    return len(text) == 14 and text.isascii() and text.isdigit()


def trial_name(snapshot: str) -> str:
    """Return the name of the writable copy of a snapshot."""
    return TRIAL_PREFIX + snapshot.partition("_")[2]


def label(snapshot: Snapshot) -> str:
    """Return what messages call a snapshot: `260 (yum_20261128202327)`."""
    return labelled(snapshot.name, snapshot.id)


def labelled(name: str, number: Optional[int]) -> str:
    """Return what messages call the snapshot of this name and ID; its name where it has no ID."""
    return f"{number} ({name})" if number else name


def beginning(text: str, most: int, *, in_bytes: bool = False) -> str:
    """Return the beginning of a text, at most so many characters, or bytes.

    Bytes are those of UTF-8, in which file names are limited. No character is cut, or separated
    from the marks that belong to it, unless these alone are too many.
    """
    end = min(len(text), most)
    if in_bytes:
        left, end = most, 0
        while end < len(text) and left >= (size := len(os.fsencode(text[end]))):
            left, end = left - size, end + 1
    whole = end
    while 0 < whole < len(text) and _belong_together(text[whole - 1], text[whole]):
        whole -= 1
    return text[: whole or end]


def shortened(text: str, room: int) -> str:
    """Return a text, cut with "..." at the end if it takes more than `room` columns."""
    if width(text) <= room:
        return text
    return f"{beginning(text, fitting(text, room - 3))}..."


def shown(path: str) -> str:
    """Return a path for people: of a very long one only the beginning and the last name."""
    if len(path) <= _LONG:
        return path
    return f"{beginning(path, _LONG // 2)}.../{shortened(path.rpartition('/')[2], _LONG // 4)}"


def _belong_together(one: str, other: str) -> bool:
    """Whether people see two characters as one: the main rules of Unicode's annex 29."""
    if one.isascii() and other.isascii():
        return False
    from unicodedata import category

    is_joined = "\u200d" in (one, other)  # ZERO WIDTH JOINER
    return is_joined or category(other)[0] == "M" or "\U0001f3fb" <= other <= "\U0001f3ff"


def grouped(paths: Sequence[str], most: int = 12) -> list[str]:
    """Return paths for people, at most `most` texts.

    If there are more, paths inside another are counted with that one, and paths in one directory
    are counted: so a service's hundred subvolumes are one text. Very long paths are shortened.
    """
    if len(paths) <= most:
        return [*map(shown, paths)]
    inside: dict[str, int] = {}
    for path in sorted(paths):
        if not is_within_any(path, inside):
            inside[path] = 0
    for path in set(paths) - set(inside):
        above = path
        while above not in inside:
            above = above.rpartition("/")[0]
        inside[above] += 1
    beside: dict[str, list[str]] = {}
    for path in inside:
        beside.setdefault(path.rpartition("/")[0], []).append(path)
    found = []
    for directory, row in beside.items():
        if directory and len(row) > 3:
            found.append(f"{sum(inside[p] + 1 for p in row)} in {shown(directory)}")
        else:
            found += [shown(p) + (f" and {inside[p]} in it" if inside[p] else "") for p in row]
    more = len(found) - most
    return found if more <= 0 else [*found[:most], f"{more} more places"]


def resolve(reference: str, snapshots: Sequence[Snapshot]) -> Snapshot:
    """Return the snapshot that `reference` names.

    It is an ID, a name, its unique beginning, either as a path in the store, what `label` returns,
    or `latest`. `snapshots` is in the order of age, oldest first; `latest` is none that was taken
    in a trial. Raises UsageError if no snapshot matches, or several.
    """
    present = [s for s in snapshots if s.exists]
    if reference == "latest":
        candidates = [s for s in present if not (s.is_replaced or s.of_trial)]
        if not candidates:
            raise UsageError("there is no snapshot yet", hint="'fs-rollback create' takes one.")
        return candidates[-1]
    # As dnf's line has it, or what completes the name of a directory.
    is_path = reference.startswith(_IN_STORE)
    name = reference[len(_IN_STORE) :].rstrip("/") if is_path else reference
    exact = [s for s in snapshots if name == s.name or reference == label(s)]
    exact = exact or [s for s in present if str(s.id) == reference]
    matches = exact or [s for s in snapshots if name and s.name.startswith(name)]
    if not matches:
        meant = closest.question(_similar(name, snapshots, present))
        hint = f"{meant} 'fs-rollback list' shows all of them.".lstrip()
        raise UsageError(f"no snapshot {reference!r}", hint=hint)
    if len(matches) > 1:
        names = ", ".join(label(s) for s in matches[:5])
        more = f" and {len(matches) - 5} more" if len(matches) > 5 else ""
        raise UsageError(
            f"{reference!r} matches {len(matches)} snapshots: {names}{more}",
            hint="Give more characters of the name, or the ID.",
        )
    return matches[0]


def _similar(text: str, snapshots: Sequence[Snapshot], present: Sequence[Snapshot]) -> list[str]:
    """Return what messages call the snapshots whose name or ID was probably meant."""
    begun = [s for s in snapshots if text and s.name.casefold().startswith(text.casefold())]
    if begun:
        return [label(s) for s in begun[-_MOST_SIMILAR:]]
    near = [*reversed(present)]  # of those that are equally like it the newest
    if text.isdecimal() and len(text) <= _LONGEST_ID:  # or those that were taken around it
        near.sort(key=lambda snapshot: abs(snapshot.id - int(text)))
    called = {str(s.id): label(s) for s in near}
    called.update({s.name: label(s) for s in reversed(snapshots)})
    found = closest.closest(text, [*called, *["latest"] * bool(called)], _MOST_SIMILAR)
    return list(dict.fromkeys(called.get(one, repr(one)) for one in found))
