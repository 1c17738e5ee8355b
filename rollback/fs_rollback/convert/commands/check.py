# SPDX-License-Identifier: GPL-2.0-or-later
"""`convert check`: whether this root can be converted."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from ...cli import command
from .actions import have_backup

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator, Sequence

    from ...errors import RefusedError
    from ..machine.machine import Ext4Machine
    from ..plan.facts import Point


def arguments(parser: ArgumentParser) -> None:
    """Add what `convert check` takes."""
    command.json(parser)
    have_backup(parser)


def run(args: Namespace) -> int:
    """`convert check`: a line a point; exit code 0, 1 with warnings, 3 if it cannot be done."""
    from ...cli import session
    from ...errors import RefusedError, UnsupportedRootError
    from ...system.linux import devices
    from ..check import points
    from ..plan.facts import Point, Verdict, exit_code, worst
    from ..torn import mend
    from . import dialogue

    try:
        with _looked_at(args) as root:
            found = points.points(dialogue.facts(args, root))
    except UnsupportedRootError as error:  # that it is no ext4 is the answer, as for a mounted one
        cut_off = mend.advice(devices.find(args.device)) if args.device else ""
        found = (Point("filesystem", Verdict.REFUSED, error.message, cut_off or error.hint),)
    except RefusedError as error:  # a point among the others
        found = _without_system(args, error)
    verdict = worst(found)
    if args.json:
        rows = [point.to_json() for point in found]
        session.print_json({"verdict": verdict.value, "points": rows})
    else:
        print(points_text(found))
    return exit_code(found)


def _without_system(args: Namespace, reason: RefusedError) -> tuple[Point, ...]:
    """Return the points of a filesystem alone, and why its system cannot be looked at.

    Raises the reason where it is not known which filesystem is meant.
    """
    from datetime import datetime, timezone

    from ...system.linux import devices
    from ..check import gather, points
    from ..disk import mounted
    from ..machine import machine
    from ..plan.facts import Point, Verdict

    device = devices.find(args.device) if args.device else machine.device_on(args.root)
    if not device:
        raise reason
    kind = devices.probe(device).get("TYPE", "")
    # One that is mounted is not clean, and need not be.
    in_use = mounted.is_mounted_anywhere(device)
    volume = gather.look(device, kind, is_mounted=in_use, now=datetime.now(timezone.utc))
    why = Point("system", Verdict.REFUSED, reason.message, reason.hint)
    return (*points.of_volume(volume), why)


@contextmanager
def _looked_at(args: Namespace) -> Iterator[Ext4Machine]:
    """Open the system of --root, or that of --device, which is mounted to be looked at."""
    from ...cli import session
    from ..disk import looking_at
    from ..machine import machine

    if args.device is None:
        with machine.opened(args.root) as found:
            yield found
        return
    looked_at = looking_at.mounted_to_look(args.device, session.note)
    with looked_at as (root, device), machine.opened(root, device) as found:
        yield found


def points_text(points: Sequence[Point]) -> str:
    """Return the points of a conversion: a line each, what to do below it, the verdict last."""
    from ...report import clean
    from ..plan.facts import Verdict, worst

    verdicts = {
        Verdict.OK: "This root can be converted to btrfs.",
        Verdict.WARNING: "This root can be converted to btrfs; see the warnings first.",
        Verdict.REFUSED: "This root cannot be converted as it is.",
    }
    width = max((len(point.name) for point in points), default=0)
    lines = []
    for point in points:
        lines.append(f"{point.verdict.value:7}  {point.name:{width}}  {clean(point.text)}")
        if point.verdict is not Verdict.OK and point.advice:
            lines.append(f"{'':{width + 11}}{clean(point.advice)}")
    return "\n".join([*lines, "", verdicts[worst(points)]])


_HELP = "whether the root can be converted; exit code 3: no"
COMMAND = command.Command(_HELP, arguments, run, reads=True, on_device=False, on_own_root=False)
