# SPDX-License-Identifier: GPL-2.0-or-later
"""Which subvolume btrfs mount options name, as the kernel reads them (fs/btrfs/super.c)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Optional

TOP_LEVEL_ID = 5  # BTRFS_FS_TREE_OBJECTID, linux/btrfs_tree.h
_NAME, _NUMBER = "subvol=", "subvolid="
# kstrtoull() with base 0: what begins with 0 is octal, with 0x hexadecimal.
_KERNEL_NUMBER = r"\+?(?:0[xX](?P<hex>[0-9a-fA-F]+)|0(?P<octal>[0-7]*)|(?P<ten>[1-9][0-9]*))"


def names_subvolume(option: str) -> bool:
    """Whether an option chooses the subvolume, by its path or by its ID."""
    return option.startswith((_NAME, _NUMBER))


def subvolume_path(options: Sequence[str]) -> Optional[str]:
    """Return the path that the last `subvol=` names, "" for the top level; None if there is none.

    `//root/` and `./root` are `root` to the kernel.
    """
    for option in reversed(options):
        if option.startswith(_NAME):
            parts = option[len(_NAME) :].split("/")
            return "/".join(part for part in parts if part not in ("", "."))
    return None


def subvolume_number(options: Sequence[str]) -> Optional[int]:
    """Return the ID that the last `subvolid=` says; None if there is none.

    0 means the top level. Raises ValueError for a number that the kernel would not accept.
    """
    for option in reversed(options):
        if option.startswith(_NUMBER):
            return _number(option[len(_NUMBER) :])
    return None


def is_named(options: Sequence[str], path: str, number: int) -> bool:
    """Whether mount options name this subvolume, by its path or by its ID."""
    paths = [o[len(_NAME) :].strip("/") for o in options if o.startswith(_NAME)]
    return paths[-1:] == [path] or f"{_NUMBER}{number}" in options


def _number(text: str) -> int:
    match = re.fullmatch(_KERNEL_NUMBER, text)
    if match is None:
        raise ValueError(f"subvolid={text} is not a subvolume ID")
    if match["hex"]:
        found = int(match["hex"], 16)
    elif match["octal"] is not None:
        found = int(match["octal"] or "0", 8)
    else:
        found = int(match["ten"])
    return found or TOP_LEVEL_ID
