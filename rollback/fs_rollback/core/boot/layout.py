# SPDX-License-Identifier: GPL-2.0-or-later
"""How a machine finds its root at boot, decided from what its files and its kernel say."""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence
from typing import Callable, NamedTuple, Optional

from ...errors import RefusedError
from ..formats import bls, cmdline, fstab
from ..formats.mount_options import subvolume_number, subvolume_path
from ..snapshots.snapshot import TOP_LEVEL_ID, Subvolume

_SET_TOP_LEVEL = "Run 'btrfs subvolume set-default 5 /'. Then, "
_PIN = r"subvolid=[^\s,\"]*"
# Whether a device that a line names is the filesystem of the root; None: that cannot be told.
IsOurs = Callable[[str], Optional[bool]]


class Kind(enum.Enum):
    """The layouts that a rollback knows; a pinned one (`subvolid=`) is refused."""

    DEFAULT = "default subvolume"
    NAMED = "named"


class Statement(NamedTuple):
    """What one line of one file says about the root subvolume.

    If the line names none (`subvolume` and `subvolume_id` are None), it means the default subvolume
    if it `decides`, and nothing otherwise, as in fstab. `is_ours` is None where it is unknown
    whether the line names the filesystem of the root.
    """

    where: str
    text: str
    subvolume: Optional[str]
    subvolume_id: Optional[int]
    decides: bool
    is_ours: Optional[bool] = True

    @property
    def silent(self) -> bool:
        """Whether it leaves the choice to the default subvolume."""
        return self.subvolume is None and self.subvolume_id is None


class Layout(NamedTuple):
    """How the root is found, and the subvolume that the next boot will find."""

    kind: Kind
    root: Subvolume
    statements: tuple[Statement, ...]

    @property
    def in_top_level(self) -> bool:
        """Whether the root lies in the top level itself, which can be neither moved nor renamed."""
        return self.root.id == TOP_LEVEL_ID

    def silent_id(self, default_id: int) -> int:
        """Return the ID of the root for a line that names no subvolume."""
        named = [statement for statement in self.statements if statement.subvolume is not None]
        by_fstab = bool(named) and not any(statement.decides for statement in named)
        return self.root.id if by_fstab or self.kind is Kind.DEFAULT else default_id

    def describe(self) -> str:
        """Return the layout in a few words."""
        if self.kind is Kind.NAMED:
            return f"named: subvol={self.root.path}"
        where = "the top level" if self.in_top_level else self.root.path
        return f"default subvolume: {where} (ID {self.root.id})"


def from_command_line(where: str, line: str, is_ours: IsOurs) -> Optional[Statement]:
    """Read a kernel command line; None if it boots another filesystem.

    `live:`, `nfs:` and the like (dracut.cmdline(7)) are no filesystem on our device.
    """
    arguments = cmdline.root_arguments(line)
    ours = is_ours(arguments.root) if arguments.root else True
    if ours is False:
        return None
    name, number = _subvolume(where, arguments.flags)
    return Statement(where, line.strip(), name, number, decides=True, is_ours=ours)


def from_fstab(where: str, entries: Sequence[fstab.Entry]) -> Optional[Statement]:
    """Read the root line of an fstab; None if there is none."""
    entry = fstab.root_entry(entries)
    if entry is None:
        return None
    name, number = _subvolume(where, entry.options)
    return Statement(f"{where} line {entry.line}", entry.text, name, number, decides=False)


def from_boot_entry(entry: bls.BootEntry, is_ours: IsOurs) -> Optional[Statement]:
    """Read one boot entry; None if it boots another filesystem or says nothing about a root."""
    return from_file(entry.file, entry.arguments, is_ours)


def from_file(where: str, line: str, is_ours: IsOurs) -> Optional[Statement]:
    """Read a command line in a file; None as above, and if it says nothing about a root."""
    if not cmdline.root_arguments(line).root:
        return None
    return from_command_line(where, line, is_ours)


def _subvolume(where: str, options: Sequence[str]) -> tuple[Optional[str], Optional[int]]:
    """Return name and ID. Where both are given the kernel mounts only what fits both."""
    try:
        return subvolume_path(options), subvolume_number(options)
    except ValueError as error:
        raise RefusedError(
            f"{where}: {error}",
            hint=f"Correct {where}; 'btrfs subvolume list /' shows all subvolumes.",
        ) from error


def root_of(
    statement: Statement, subvolumes: Sequence[Subvolume], silent_id: int
) -> Optional[Subvolume]:
    """Return the subvolume that a line makes the root; None if it does not exist.

    `silent_id` is the ID of the root for a line that names none.
    """
    for subvolume in subvolumes:
        if statement.silent:
            found = subvolume.id == silent_id
        else:
            found = (statement.subvolume in (None, subvolume.path)) and (
                statement.subvolume_id in (None, subvolume.id)
            )
        if found:
            return subvolume
    return None


def expected_root(
    lines: Sequence[Statement], subvolumes: Sequence[Subvolume], default_id: int, root_id: int
) -> Subvolume:
    """Return the root for lines that count whatever the boot loader does.

    That is what the first line that names a root says, or the default subvolume if a line leaves
    the choice to it, otherwise the subvolume with `root_id`.
    """
    said = [line for line in lines if not line.silent] or [line for line in lines if line.decides]
    found = root_of(said[0], subvolumes, default_id) if said else None
    return found or next(s for s in subvolumes if s.id == root_id)


def decide(
    statements: Sequence[Statement],
    subvolumes: Sequence[Subvolume],
    default_id: int,
    root_id: int,
) -> Layout:
    """Return the layout, or raise RefusedError naming the lines that pin it or disagree.

    `root_id` is the subvolume that the caller wants to roll back: what the running system
    booted from or, on a machine that is not running, the tree that was named.
    """
    by_id = {subvolume.id: subvolume for subvolume in subvolumes}
    by_path = {subvolume.path: subvolume for subvolume in subvolumes}
    _refuse_pins(statements, by_id, default_id)
    _refuse_top_level(statements, default_id)
    explicit = [s for s in statements if s.subvolume is not None]
    _refuse_disagreement(explicit, statements, by_path, default_id, root_id)
    if explicit:
        return Layout(Kind.NAMED, by_path[str(explicit[0].subvolume)], tuple(statements))
    return Layout(Kind.DEFAULT, by_id[default_id], tuple(statements))


def _refuse_pins(
    statements: Sequence[Statement], by_id: dict[int, Subvolume], default_id: int
) -> None:
    for statement in statements:
        number = statement.subvolume_id
        if number is None:
            continue
        pinned = by_id.get(number)
        written = re.findall(_PIN, statement.text)
        pin = written[-1] if written else f"subvolid={number}"
        first = ""
        if pinned is not None and pinned.path and not statement.subvolume:
            edit = f"replace '{pin}' with 'subvol={pinned.path}'"
        else:
            edit = f"remove '{pin}'"
            if number == TOP_LEVEL_ID != default_id:
                first = _SET_TOP_LEVEL
        raise RefusedError(
            f"{statement.where} pins the root to a subvolume ID, so no rollback is possible:"
            f" {statement.text}",
            hint=_edit(statement, edit, first),
        )


def _refuse_top_level(statements: Sequence[Statement], default_id: int) -> None:
    for statement in statements:
        if statement.subvolume == "":
            first = "" if default_id == TOP_LEVEL_ID else _SET_TOP_LEVEL
            raise RefusedError(
                f"{statement.where} names the top level as the root, which can be neither moved nor"
                f" renamed: {statement.text}",
                hint=_edit(statement, "remove 'subvol=/'", first),
            )


def _edit(statement: Statement, edit: str, first: str) -> str:
    where = "in" if first else "In"
    return f"{first}{where} {_file(statement)}, {edit}, reboot, and try again."


def _file(statement: Statement) -> str:
    """Return the file that an administrator edits to change a statement."""
    if statement.where == "/proc/cmdline":
        return "the boot loader's configuration"
    return statement.where.split(" line ")[0]


def _refuse_disagreement(
    explicit: Sequence[Statement],
    statements: Sequence[Statement],
    by_path: dict[str, Subvolume],
    default_id: int,
    root_id: int,
) -> None:
    """Raise RefusedError if any two lines lead to different roots."""
    fstab_decides = bool(explicit) and not any(s.decides for s in explicit)
    found: list[tuple[Statement, int]] = []
    for statement in statements:
        if statement.subvolume is not None:
            target = by_path.get(statement.subvolume)
            if target is None:
                raise RefusedError(
                    f"{statement.where} names a subvolume that does not exist: {statement.text}",
                    hint=f"Correct {statement.where}; 'btrfs subvolume list /' shows all"
                    " subvolumes.",
                )
            found.append((statement, target.id))
        elif statement.decides and not (fstab_decides and default_id != root_id):
            found.append((statement, default_id))
    for statement, target_id in found[1:]:
        if target_id != found[0][1]:
            first = found[0][0]
            raise RefusedError(
                "two lines disagree about the root subvolume:\n"
                f"  {first.where}: {first.text}\n  {statement.where}: {statement.text}",
                hint="Correct the wrong one, or make an entry that boots the right root the default"
                " of the boot menu; then try again.",
            )
