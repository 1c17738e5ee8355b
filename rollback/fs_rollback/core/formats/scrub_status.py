# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads the record that btrfs-scrub(8) has of the last scrub: /var/lib/btrfs/scrub.status.UUID."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Optional

# scrub_read_file() in cmds/scrub.c of btrfs-progs 6.19: the first line names the format, the
# others are UUID:DEVICE NUMBER and KEY:NUMBER pairs with "|" between them.
_FIRST_LINE = "scrub status:1"
_KEYS = (
    "t_start", "t_resumed", "finished", "canceled", "corrected_errors", "uncorrectable_errors",
)  # fmt: skip


class Scrub(NamedTuple):
    """The last scrub of a filesystem: all of its devices together.

    `began_s` is in seconds since 1970. If unfinished, it was canceled, interrupted, or is running.
    """

    began_s: int
    is_finished: bool
    is_canceled: bool
    corrected: int
    uncorrectable: int

    @property
    def state(self) -> str:
        """How it ended, in one of the words of btrfs-scrub(8) and of the JSON."""
        if self.is_canceled:
            return "canceled"
        return "finished" if self.is_finished else "interrupted"


def path_of(uuid: str) -> str:
    """Return the path of that file in the root, for a filesystem's UUID."""
    return f"var/lib/btrfs/scrub.status.{uuid}"


def parse(text: str, uuid: str) -> Optional[Scrub]:
    """Return the last scrub of a filesystem, None if the file has none.

    Raises ValueError if it is not in the format of 2011 to 2026, the only one so far.
    """
    first, _, rest = text.partition("\n")
    if first != _FIRST_LINE:
        raise ValueError(f"it begins with {first[:40]!r}, not {_FIRST_LINE!r}")
    devices = [numbers for numbers in _lines(rest, uuid) if numbers["t_start"]]
    if not devices:
        return None
    return Scrub(
        began_s=min(numbers["t_resumed"] or numbers["t_start"] for numbers in devices),
        # A canceled one has both.
        is_finished=all(n["finished"] and not n["canceled"] for n in devices),
        is_canceled=any(numbers["canceled"] for numbers in devices),
        corrected=sum(numbers["corrected_errors"] for numbers in devices),
        uncorrectable=sum(numbers["uncorrectable_errors"] for numbers in devices),
    )


def _lines(text: str, uuid: str) -> Iterator[dict[str, int]]:
    """Give the numbers of each line about the filesystem; what is not said is 0, as there."""
    for line in text.split("\n"):
        name, _, rest = line.partition(":")
        if name.lower() != uuid.lower():
            continue
        numbers = dict.fromkeys(_KEYS, 0)
        for pair in rest.split("|")[1:]:  # first the number of the device
            key, _, value = pair.partition(":")
            if not (value.isascii() and value.isdigit()):
                raise ValueError(f"not a number: {pair[:40]!r}")
            numbers[key] = int(value)
        yield numbers
