# SPDX-License-Identifier: GPL-2.0-or-later
"""Commands in what people read, made to work where they are: with the same --device or --root."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import Namespace


def remember(args: Namespace) -> None:
    """Keep, as `args.where`, which system was asked for: the mount of a device replaces `root`."""
    args.where = ()
    if args.device is not None:
        args.where = ("--device", args.device)
    elif args.root != "/":
        args.where = ("--root", args.root)


def addressed(text: str, args: Namespace) -> str:
    """Return a text whose commands of this program are about the same system as this one."""
    where: tuple[str, ...] = getattr(args, "where", ())
    if not (where and text):
        return text
    import re
    import shlex

    from .arguments import COMMANDS

    # Not `convert`, whose actions have a --device of their own.
    ours = rf"\bfs-rollback (?:{'|'.join(COMMANDS)})\b(?! --(?:device|root))"
    return re.sub(ours, lambda match: f"{match.group()} {shlex.join(where)}", text)
