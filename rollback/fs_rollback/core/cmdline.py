# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads a kernel command line: which filesystem and which subvolume it makes the root.

Quotation as in the kernel's next_arg() (lib/cmdline.c): double quotes keep blanks together.
"""

from __future__ import annotations

from typing import NamedTuple


class RootArguments(NamedTuple):
    """The last `root=`, and the options of every `rootflags=` in their order.

    systemd-fstab-generator(8), which mounts the root in a dracut initramfs, joins them with commas.
    """

    root: str
    flags: tuple[str, ...]


def words(line: str) -> list[str]:
    """Split a command line into its arguments, without their quotation marks."""
    found, word, quoted = [], "", False
    for character in line.strip():
        if character == '"':
            quoted = not quoted
        elif character.isspace() and not quoted:
            found.append(word)
            word = ""
        else:
            word += character
    found.append(word)
    return [word for word in found if word]


def root_arguments(line: str) -> RootArguments:
    """Return what the line says about the root."""
    root, flags = "", []
    for word in words(line):
        if word.startswith("root="):
            root = word[5:]
        elif word.startswith("rootflags="):
            flags += word[10:].split(",")
    return RootArguments(root, tuple(flag for flag in flags if flag))
