# SPDX-License-Identifier: GPL-2.0-or-later
"""Adds --device or --root, as the user gave it, to the commands that messages advise."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import Namespace


def remember(args: Namespace) -> None:
    """Keep in `args.where` which system was asked for: mounting a device changes `args.root`."""
    args.where = ()
    if args.device is not None:
        args.where = ("--device", args.device)
    elif args.root != "/":
        args.where = ("--root", args.root)


def addressed(text: str, args: Namespace) -> str:
    """Return the text with the --device or --root of `args` added to each fs-rollback command."""
    where: tuple[str, ...] = getattr(args, "where", ())
    if not (where and text):
        return text
    import re
    import shlex

    from .arguments import COMMANDS

    # Not `convert`, whose actions have a --device of their own.
    ours = rf"\bfs-rollback (?:{'|'.join(COMMANDS)})\b(?! --(?:device|root))"
    return re.sub(ours, lambda match: f"{match.group()} {shlex.join(where)}", text)
