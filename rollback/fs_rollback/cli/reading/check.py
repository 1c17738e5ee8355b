# SPDX-License-Identifier: GPL-2.0-or-later
"""`check`: the machine as its next boot would read it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import command

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def arguments(parser: ArgumentParser) -> None:
    """Add what `check` takes."""
    command.json(parser)


def run(args: Namespace) -> int:
    """`check`: a line for each link; exit code 0, 1 with warnings, 3 if it would not boot."""
    from datetime import datetime
    from functools import partial

    from ...core.boot import findings
    from ...system.check import everything as checks
    from .. import session
    from ..advice import addressed
    from ..screen import colour
    from ..screen.findings import boot_wording, findings_json, findings_text
    from ..terminal import table_width, wrapped

    with session.reading(args.root) as (host, store):
        found = checks.walk(host, store, datetime.now().astimezone())
    links = tuple(link._replace(advice=addressed(link.advice, args)) for link in found)
    if args.json:
        session.print_json(findings_json(links, boot_wording()))
    else:
        wrap = partial(wrapped, width=table_width())
        print(findings_text(links, boot_wording(), wrap, colour.paint(args.color)))
    return findings.exit_code(links)


_HELP = "check everything that the next boot depends on"
COMMAND = command.Command(_HELP, arguments, run, reads=True)
