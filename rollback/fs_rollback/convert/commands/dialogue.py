# SPDX-License-Identifier: GPL-2.0-or-later
"""What the actions ask, show and answer alike."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from ... import report
from ...cli.terminal import ask
from ...errors import RefusedError, UsageError

if TYPE_CHECKING:
    from ..machine.machine import Ext4Machine
    from ..plan.facts import Facts
    from ..plan.steps import PreparingStep


def facts(args: Namespace, root: Ext4Machine) -> Facts:
    """Return all that decides whether this root can be converted, as it is now."""
    from ..check import gather

    return gather.gather(root, backup=args.have_backup, now=datetime.now(timezone.utc))


def ask_for_backup(args: Namespace, device: str) -> None:
    """Ask for a confirmation that there is a backup. Raises UsageError, RefusedError."""
    if args.have_backup:
        return
    if not sys.stdin.isatty():
        raise UsageError(
            "no terminal to ask on",
            hint="Use --have-backup if there is a backup on another disk that you have read from.",
        )
    answer = ask(
        f"This rewrites all filesystem metadata on {device}. Is there a backup on another disk, and"
        " have you read something back from it? Type 'I have': "
    )
    if answer.strip("'\"").lower() != "i have":
        raise RefusedError("no conversion without a backup", hint="Make one first.")


def print_steps(steps: Sequence[PreparingStep]) -> None:
    """Print what each step does."""
    for number, step in enumerate(steps, start=1):
        print(f" {number:2}. {report.clean(step.describe())}")
    print()
