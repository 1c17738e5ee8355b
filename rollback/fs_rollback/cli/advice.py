# SPDX-License-Identifier: GPL-2.0-or-later
"""Commands in what people read, made to work where they are: with the same --device or --root."""

from __future__ import annotations

import re
import shlex
from argparse import Namespace

# All but `convert`, whose actions have a --device of their own.
_NAMES = "check create delete list pin prune rollback settle show status try undo unpin"
_COMMAND = re.compile(rf"\bfs-rollback (?:{_NAMES.replace(' ', '|')})\b(?! --(?:device|root))")


def remember(args: Namespace) -> None:
    """Keep, as `args.where`, which system was asked for: the mount of a device replaces `root`."""
    args.where = ""
    if args.device is not None:
        args.where = f" --device {shlex.quote(args.device)}"
    elif args.root != "/":
        args.where = f" --root {shlex.quote(args.root)}"


def addressed(text: str, args: Namespace) -> str:
    """Return a text whose commands of this program are about the same system as this one."""
    where = getattr(args, "where", "")
    return _COMMAND.sub(lambda match: match.group() + where, text) if where else text
