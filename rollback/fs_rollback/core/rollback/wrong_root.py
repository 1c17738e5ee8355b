# SPDX-License-Identifier: GPL-2.0-or-later
"""Why a machine came up in another root than the one that a rollback made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Optional

from ..boot.layout import Statement
from ..snapshots.snapshot import Subvolume
from .steps import mounted

RUNNING = "/proc/cmdline"


class Explanation(NamedTuple):
    """Which root runs, which should, and why, as one sentence; and what to do."""

    sentence: str
    hint: str

    @property
    def line(self) -> str:
        """Both in one line."""
        return f"{self.sentence}. {self.hint}"


class Roots(NamedTuple):
    """The two roots of a rollback and what the next boot finds; None is what does not exist."""

    old: Optional[Subvolume]
    new: Optional[Subvolume]
    next: Optional[Subvolume]


def displaced(
    target: str, device: str, name: Optional[str], free_name: str, roots: Roots
) -> Explanation:
    """Explain why the next boot uses neither root of the rollback to `target`.

    `name` is the root's name, None if it is the default subvolume; `free_name` is a new name for
    what has that name now. The commands in the hint mount the top level of `device` on /mnt.
    """
    place = "the default subvolume" if name is None else f"/{name}"
    said = f"the next boot does not use the root that the rollback to {target} made"
    if roots.next is None:
        sentence = f"{said}: there is no subvolume at {place}, so the machine would not boot"
        if roots.old is not None:
            return Explanation(sentence, "'fs-rollback undo' puts the old root back there.")
        if roots.new is None:
            hint = "Both roots are gone; 'fs-rollback list' shows the snapshots to roll back to."
            return Explanation(sentence, hint)
        put_back = f"mv -T {mounted(roots.new.path)} {mounted(name or '')}"
        return Explanation(sentence, f"Put it back there: {by_hand(device, put_back)}")
    other = f"{_named(roots.next)}, UUID {roots.next.uuid}"
    sentence = f"{said}: another tool has put another subvolume there, {other}"
    if name is None:
        sentence = f"{said}: another tool has made {other} the default subvolume"
    ways = ["To keep what the next boot uses: 'fs-rollback settle --forget'."]
    for which, root, then in (
        ("the old root", roots.old, "then 'fs-rollback settle'"),
        ("the root of the rollback", roots.new, "then reboot"),
    ):
        if root is None:
            ways.append(f"{which[0].upper()}{which[1:]} was deleted.")
            continue
        commands = [f"btrfs subvolume set-default {root.id} /mnt"]
        if name is not None:
            commands = [
                f"mv -T {mounted(name)} {mounted(free_name)}",
                f"mv -T {mounted(root.path)} {mounted(name)}",
            ]
        ways.append(f"To use {which} instead: {by_hand(device, *commands)}; {then}.")
    return Explanation(sentence, " ".join(ways))


def by_hand(device: str, *commands: str) -> str:
    """Return one line to copy that runs shell commands on the top level of a device."""
    return " && ".join((f"mount -o subvolid=5 {device} /mnt", *commands, "umount /mnt"))


def explain(
    running: Optional[Subvolume],
    wanted: Optional[Subvolume],
    default_id: int,
    statements: Sequence[Statement],
) -> Explanation:
    """Explain why `running` is the root and not `wanted`; either is None if it does not exist.

    `statements` are what the kernel's command line and the files of the running root say about the
    root, `default_id` the default subvolume.
    """
    runs = _named(running) if running else "a root that has no path"
    if wanted is None:
        return Explanation(
            f"{runs} is running, because the root that the rollback made is gone",
            "The replaced root is in 'fs-rollback list': roll back to it, or to a snapshot.",
        )
    why, hint = _reason(wanted, default_id, statements)
    return Explanation(f"{runs} is running instead of {_named(wanted)}: {why}", hint)


def _reason(wanted: Subvolume, default_id: int, statements: Sequence[Statement]) -> tuple[str, str]:
    # What the kernel was told comes first, wherever it was listed.
    for statement in sorted(statements, key=lambda statement: statement.where != RUNNING):
        other = _other_than(wanted, statement)
        if not other:
            continue
        if statement.where == RUNNING:
            return (
                f"the kernel command line says '{other}', which comes from an entry that was chosen"
                " by hand or from one for a trial",
                "Reboot and choose the machine's usual boot entry; 'fs-rollback status' says"
                " which root that is.",
            )
        return (
            f"{statement.where} says '{other}'",
            f"Correct {statement.where.split(' line ')[0]}, or choose another boot entry; then"
            " reboot.",
        )
    if default_id != wanted.id and any(s.decides and s.silent for s in statements):
        return (
            f"nothing names the root, and the default subvolume is now ID {default_id}",
            f"Run 'btrfs subvolume set-default {wanted.id} /', then reboot.",
        )
    return (
        "the reason cannot be read from here",
        "Reboot and choose the machine's usual boot entry; 'cat /proc/cmdline' shows the command"
        " line of this boot.",
    )


def _other_than(wanted: Subvolume, statement: Statement) -> str:
    """Return the option with which a statement names another root than `wanted`, "" if none."""
    if statement.subvolume_id is not None and statement.subvolume_id != wanted.id:
        return f"subvolid={statement.subvolume_id}"
    if statement.subvolume is not None and statement.subvolume != wanted.path:
        return f"subvol={statement.subvolume}"
    return ""


def _named(subvolume: Subvolume) -> str:
    place = f"/{subvolume.path}" if subvolume.path else "the top level"
    return f"{place} (ID {subvolume.id})"
