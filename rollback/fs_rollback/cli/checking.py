# SPDX-License-Identifier: GPL-2.0-or-later
"""The command that reads the machine as its next boot would: check."""

from __future__ import annotations

from argparse import Namespace

from .. import report
from ..core.boot import findings
from ..system.check import everything as checks
from . import session
from .advice import addressed


def check(args: Namespace) -> int:
    """`check`: a line a link; exit code 0, 1 with warnings, 3 if the machine would not boot."""
    with session.reading(args.root) as (host, store):
        found = checks.walk(host, store)
    links = tuple(link._replace(advice=addressed(link.advice, args)) for link in found)
    verdict = findings.verdict(links)
    if args.json:
        rows = [link.to_json() for link in links]
        session.print_json({"verdict": verdict.value, "links": rows})
    else:
        print(report.chain_text(links))
    return findings.exit_code(links)
