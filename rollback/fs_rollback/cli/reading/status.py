# SPDX-License-Identifier: GPL-2.0-or-later
"""`status`: how the machine stands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import command

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from ...report import Paint

_LABELS = 15


def arguments(parser: ArgumentParser) -> None:
    """Add what `status` takes."""
    command.json(parser)


def run(args: Namespace) -> int:
    """`status`: how the machine stands; exit code 1 if something needs attention."""
    from .. import session
    from ..advice import addressed
    from ..screen import colour
    from . import status_facts

    with session.reading(args.root) as (host, store):
        facts, attention = status_facts.gather(host, store)
    facts["trial"] = args.trial or None
    facts["attention"] = [addressed(line, args) for line in attention]
    if args.json:
        session.print_json(facts)
    else:
        _print_status(facts, colour.paint(args.color))
    return 1 if attention else 0


def _print_status(facts: dict[str, Any], paint: Paint) -> None:
    from ...core.snapshots.names import labelled
    from ...core.snapshots.space import size
    from ..terminal import attention, table_width, wrapped

    width, lines = table_width(), list[str]()
    if facts["trial"]:
        of_trial = f"This machine runs a trial of {facts['trial']}. To make that snapshot the root:"
        lines += wrapped("", f"{of_trial} fs-rollback rollback", 2, width)
        lines.append("What is written during the trial is lost when it ends.")
    following, copied = facts["next"], facts["copy_of"]
    space = facts["space"]
    newest = labelled(facts["newest"], facts["newest_id"]) if facts["newest"] else "-"
    held = f"; the snapshots hold {size(space['held_bytes'])}" if space["held_bytes"] else ""
    rows = {
        "Root": f"{facts['device']}, layout {facts['layout'] or 'unknown'}",
        "Running": _root(facts["running"]) + (f", a copy of {_called(copied)}" if copied else ""),
        "Next boot": _root(following) if following else "unknown",
        "Waiting": facts["waiting"],
        **_road_rows(facts["roads"]),
        "Last rollback": _told(facts["last_rollback"], facts["running"]["id"]),
        "Snapshots": f"{facts['snapshots']}, newest {newest}",
        "Space": f"{size(space['free_bytes'])} free of {size(space['total_bytes'])}{held}",
    }
    if facts["unfinished_conversion"]:
        rows["Conversion"] = "from ext4; 'fs-rollback convert finish' does the rest"
    for label, value in rows.items():
        start = f"{label}:"
        for line in value.split("\n"):
            lines += wrapped(f"{start:{_LABELS}}", line, _LABELS, width)
            start = ""
    print("\n".join([*lines, *attention(facts["attention"], paint)]))


def _road_rows(roads: list[dict[str, Any]]) -> dict[str, str]:
    """Return the rows of the roads on which packages change: a state each, a line a reason.

    A reason to act is not here: it has a line of its own below, with what to do.
    """
    order = ("covered", "not covered", "unknown", "not installed")
    states: dict[str, dict[str, list[str]]] = {state: {} for state in order}
    states["covered"][""] = []
    for road in roads:
        why = (not road["advice"] and road["why"]) or ""
        states[road["state"]].setdefault(why, []).append(road["name"])
    return {
        state.capitalize(): "\n".join(
            (", ".join(names) or "nothing") + (why and f": {why}") for why, names in reasons.items()
        )
        for state, reasons in states.items()
        if reasons
    }


def _told(rollback: dict[str, Any] | None, running: int) -> str:
    """Return the lines of the last rollback: where to, what became of it, what the old root is."""
    if rollback is None:
        return "-"
    from datetime import datetime

    from ... import report
    from ...core.snapshots.names import labelled
    from ...core.snapshots.record import parse_time
    from ...core.snapshots.replaced_by import ReplacedBy

    moment = parse_time(rollback["created"])
    old, target = labelled(rollback["replaced"], rollback["replaced_id"]), rollback["target"]
    told = rollback["replaced_by"]
    if told is None:
        return f"{report.local_time(moment)}, {old} {rollback['description']}"
    ended = told["confirmed"] and parse_time(told["confirmed"])
    seen = report.view((), datetime.now().astimezone())
    came_up = seen.came_up(ReplacedBy(told["name"], confirmed=ended, given_up=told["given_up"]))
    until = f"the system until {seen.clock(moment)}"
    return (
        f"to {_called(target) if target else told['name']}, {report.local_time(moment)}\n"
        f"new root: {came_up}\n"
        f"old root: {old}, {'the running system' if rollback['replaced_id'] == running else until}"
    )


def _called(snapshot: dict[str, Any]) -> str:
    from ...core.snapshots.names import labelled

    return labelled(snapshot["name"], snapshot["id"])


def _root(place: dict[str, Any]) -> str:
    path = "the top level" if place["path"] == "/" else place["path"]
    return f"{path} (ID {place['id']})"


_HELP = "show what runs, what boots next, and what needs attention"
COMMAND = command.Command(_HELP, arguments, run, reads=True)
