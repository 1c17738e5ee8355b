# SPDX-License-Identifier: GPL-2.0-or-later
"""The settings of a boot loader, and what is needed to change them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Callable, NamedTuple, Optional

from ...core.loader.choice import Choice
from ...core.loader.loader_path import LoaderPath
from ..machine.host import Host
from .places import Place

NOWHERE = LoaderPath()  # a variable of the firmware is in no file
UNKNOWN = "unknown boot loader"


class Setting(NamedTuple):
    """Where the default entry is written down.

    `key` is a variable of grubenv, one of loader.conf's, or an EFI variable's name; `file` is
    "" for that one.
    """

    file: LoaderPath
    key: str
    value: Optional[str]


class Told(NamedTuple):
    """The settings of the loader, where they can be changed, and the places that it reads.

    `setting` is None if nothing can be set.
    """

    choice: Choice
    setting: Optional[Setting]
    places: tuple[Place, ...]


class Candidate(NamedTuple):
    """A loader that a machine seems to have, by the `place` that has its own files.

    `reads` are all places that it reads entries from; `told` reads what it was told, and where it
    can be told something else.
    """

    place: Place
    reads: tuple[Place, ...]
    told: Callable[[], tuple[Choice, Optional[Setting]]]


class Tools(NamedTuple):
    """How one loader is found on a machine, and told something.

    `find` looks for it in the places of the machine, None if it is in none; `runs` is whether it
    says itself that it has booted the running system. `once` returns where it is written that the
    next boot, and only that, uses an entry, and the value that is there (None or "" if none);
    `why_not_once` why that cannot be done on this machine, "" if it can. `outranking` returns where
    a default entry can be set that counts more than all that was told, and leaves that as it is.
    """

    find: Callable[[Host, Sequence[Place]], Optional[Candidate]]
    runs: Callable[[Host], bool]
    once: Callable[[Choice, Optional[Setting]], Optional[Setting]]
    why_not_once: Callable[[Host, Sequence[Place], Optional[Setting]], str]
    outranking: Callable[[Choice, Optional[Setting]], Optional[Setting]]
