# SPDX-License-Identifier: GPL-2.0-or-later
"""What a machine's files say when its root gets a name: fstab(5) and kernel command lines.

At every moment all of them lead to the same root: the default subvolume is the one that gets the
name, so what names nothing and what has the name already mean the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from ...core.boot.conversion_state import DIRECTORY
from ...core.formats import fstab

ROOT, HOME, BOOT = "root", "home", "boot"
# There from the first change to the last: whatever was cut off is finished by the next run.
NAMING_FILE = f"{DIRECTORY}/naming.json"
_ROOT_LINE = re.compile(r"([ \t]*[^ \t]+[ \t]+)/([ \t]+)(.*)", re.DOTALL)


class Naming(NamedTuple):
    """How far it is: the subvolume that becomes /home, 0 before there is one.

    `home_generation` is the transaction number of the filesystem when that was whole.
    """

    home_id: int = 0
    home_generation: int = 0


def dump(naming: Naming) -> str:
    """Return it as JSON text."""
    return json.dumps({"version": 1, **naming._asdict()}) + "\n"


def parse(text: str) -> Naming:
    """Read it; what cannot be read says nothing of a /home that is ours."""
    try:
        data: Any = json.loads(text)
        return Naming(int(data["home_id"]), int(data["home_generation"]))
    except (LookupError, TypeError, ValueError, OverflowError):  # so a /home that is there stays
        return Naming()


def named_fstab(text: str, others: Sequence[str]) -> str:
    """Return an fstab whose root names its subvolume, with a line for each of the `others`.

    Each of those is mounted at the place of its name, like the root in all else, on a line of its
    own behind the root's; where there is one for that place already, that one stays. Raises
    ValueError without a line for the root.
    """
    named = fstab.with_root_subvolume(text, ROOT)
    root = fstab.root_entry(fstab.parse(named))
    if root is None:
        raise ValueError("it has no line for /")
    points = {entry.point for entry in fstab.parse(named)}
    lines = named.split("\n")
    model = lines[root.line - 1]
    new = [_like(model, name) for name in others if f"/{name}" not in points]
    return "\n".join([*lines[: root.line], *new, *lines[root.line :]])


def _like(line: str, name: str) -> str:
    """Return the line of the root for another subvolume; aligned columns stay where they are."""
    match = _ROOT_LINE.fullmatch(line)
    assert match is not None, "it is the line of the root"
    head, gap, rest = match.groups()
    if gap.startswith(" " * (len(name) + 1)):
        gap = gap[len(name) :]
    return f"{head}/{name}{gap}" + rest.replace(f"subvol={ROOT}", f"subvol={name}", 1)
