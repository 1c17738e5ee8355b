# SPDX-License-Identifier: GPL-2.0-or-later
"""`convert check`: whether this root can be converted."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from ...cli import command
from .actions import have_backup

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator

    from ...cli.screen.findings import Wording
    from ...core.boot.findings import Finding
    from ...errors import RefusedError
    from ..machine.machine import Ext4Machine


def arguments(parser: ArgumentParser) -> None:
    """Add what `convert check` takes."""
    command.json(parser)
    have_backup(parser)


def run(args: Namespace) -> int:
    """`convert check`: a line a point; exit code 0, 1 with warnings, 3 if it cannot be done."""
    from functools import partial

    from ...cli import session
    from ...cli.screen import colour
    from ...cli.screen.findings import findings_json, findings_text
    from ...cli.terminal import table_width, wrapped
    from ...core.boot import findings
    from ...errors import RefusedError, UnsupportedRootError
    from ...system.linux import devices
    from ..check import points
    from ..torn import mend
    from . import dialogue

    try:
        with _looked_at(args) as root:
            found = points.points(dialogue.facts(args, root))
    except UnsupportedRootError as error:  # that it is no ext4 is the answer, as for a mounted one
        cut_off = mend.advice(devices.find(args.device)) if args.device else ""
        hint = cut_off or error.hint
        found = (findings.fatal("filesystem.not-ext4", "", error.message, hint),)
    except RefusedError as error:  # a point among the others
        found = _without_system(args, error)
    if args.json:
        session.print_json(findings_json(found, wording()))
    else:
        wrap = partial(wrapped, width=table_width())
        print(findings_text(found, wording(), wrap, colour.paint(args.color)))
    return findings.exit_code(found)


def _without_system(args: Namespace, reason: RefusedError) -> tuple[Finding, ...]:
    """Return the points of a filesystem alone, and why its system cannot be looked at.

    Raises the reason where it is not known which filesystem is meant.
    """
    from datetime import datetime, timezone

    from ...core.boot import findings
    from ...system.linux import devices
    from ..check import gather, points
    from ..disk import mounted
    from ..machine import machine

    device = devices.find(args.device) if args.device else machine.device_on(args.root)
    if not device:
        raise reason
    kind = devices.probe(device).get("TYPE", "")
    # One that is mounted is not clean, and need not be.
    in_use = mounted.is_mounted_anywhere(device)
    volume = gather.look(device, kind, is_mounted=in_use, now=datetime.now(timezone.utc))
    why = findings.fatal("system.unreadable", "", reason.message, reason.hint)
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


def wording() -> Wording:
    """Return how what was found of a conversion reads, for people and for scripts."""
    from ...cli.screen.findings import Wording
    from ...core.boot.findings import Grade

    return Wording(
        rows="points",
        grade="verdict",
        words={Grade.OK: "ok", Grade.WARNING: "warning", Grade.FATAL: "refused"},
        verdicts={
            Grade.OK: "This root can be converted to btrfs.",
            Grade.WARNING: "This root can be converted to btrfs; see the warnings first.",
            Grade.FATAL: "This root cannot be converted as it is.",
        },
    )


_HELP = "check whether the root can be converted"
COMMAND = command.Command(_HELP, arguments, run, reads=True, on_device=False, on_own_root=False)
