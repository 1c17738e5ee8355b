# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads and changes a kernel command line: which filesystem and which subvolume it makes the root.

Quotation as in the kernel's next_arg() (lib/cmdline.c): double quotes keep blanks together.
"""

from __future__ import annotations

import re
from typing import NamedTuple, Optional

from .mount_options import names_subvolume

# One argument with its quotation marks; the last may lack its second mark.
WORD = r'(?:[^\s"]|"[^"]*(?:"|$))+'


class RootArguments(NamedTuple):
    """The last `root=`, the options of every `rootflags=` in their order, the last `rootfstype=`.

    systemd-fstab-generator(8), which mounts the root in a dracut initramfs, joins the options with
    commas. `fstypes` is empty without `rootfstype=`.
    """

    root: str
    flags: tuple[str, ...]
    fstypes: tuple[str, ...] = ()


def words(line: str) -> list[str]:
    """Split a command line into its arguments, without their quotation marks."""
    found = (match.group().replace('"', "") for match in re.finditer(WORD, line))
    return [word for word in found if word]


def root_arguments(line: str) -> RootArguments:
    """Return what a command line says about the root."""
    root, flags, fstypes = "", [], ""
    for word in words(line):
        if word.startswith("root="):
            root = word[5:]
        elif word.startswith("rootflags="):
            flags += word[10:].split(",")
        elif word.startswith("rootfstype="):
            fstypes = word[11:]
    return RootArguments(root, tuple(filter(None, flags)), tuple(filter(None, fstypes.split(","))))


def of_file(text: str) -> str:
    """Return the command line that a file like /etc/kernel/cmdline has: kernel-install(8) joins its
    lines and leaves out those that begin with "#".
    """
    return "\n".join(line for line in text.split("\n") if not _is_comment(line))


def file_with_root_subvolume(text: str, subvolume: Optional[str]) -> str:
    """Return the text of such a file with another root subvolume; its comments come first."""
    lines = text.split("\n")
    comments = [line for line in lines if _is_comment(line)]
    line = of_file(text)
    end = len(line.rstrip("\n"))
    return "\n".join([*comments, with_root_subvolume(line[:end], subvolume) + line[end:]])


def _is_comment(line: str) -> bool:
    return line.lstrip().startswith("#")


def with_root_subvolume(options: str, subvolume: Optional[str]) -> str:
    """Return a kernel command line that makes `subvolume` (a path from the top level) the root.

    None leaves the choice to the default subvolume.

    The kernel (init/do_mounts.c), dracut (getarg) and initramfs-tools take the last `rootflags=`;
    systemd-fstab-generator(8) joins all of them. So `subvol=` and `subvolid=` are removed from all,
    and the last one gets the new `subvol=`, in the place of an old one or at its end. If there is
    no `rootflags=`, one is added after the last `root=`, or at the end of the line: $kernelopts of
    older GRUB entries may bring a `rootflags=` that has to come first. Everything else stays byte
    for byte.

    Raises ValueError for a subvolume that cannot be written there.
    """
    wanted = [] if subvolume is None else [f"subvol={_writable(subvolume)}"]
    found = list(re.finditer(WORD, options))
    flags = [word for word in found if _is(word, "rootflags=")]
    if wanted and not flags:
        roots = [word for word in found if _is(word, "root=")]
        end = roots[-1].end() if roots else len(options.rstrip())
        new = " " * bool(options[:end].strip()) + _quoted("rootflags=" + wanted[0])
        return options[:end] + new + options[end:]
    for word in reversed(flags):
        old = word.group().replace('"', "")[len("rootflags=") :].split(",")
        new = ",".join(_replaced(old, wanted if word is flags[-1] else []))
        if new == ",".join(old):
            continue
        if new:
            options = options[: word.start()] + _quoted("rootflags=" + new) + options[word.end() :]
        else:
            options = options[: word.start()] + options[word.end() :].lstrip()
    return options


def _writable(subvolume: str) -> str:
    if not subvolume or any(c in '",$\\' or not c.isprintable() for c in subvolume):
        raise ValueError(f"{subvolume!r} cannot be written into a kernel command line")
    return subvolume


def _is(word: re.Match[str], start: str) -> bool:
    return word.group().replace('"', "").startswith(start)


def _quoted(word: str) -> str:
    return f'"{word}"' if any(c.isspace() for c in word) else word


def _replaced(old: list[str], wanted: list[str]) -> list[str]:
    """Return the mount options with what names a subvolume replaced by `wanted`, at its place."""
    named = [names_subvolume(option) for option in old]
    place = named.index(True) if True in named else len(old)
    kept = [option for option, names in zip(old, named) if not names and option]
    before = [option for option in old[:place] if option]
    return before + wanted + kept[len(before) :]
