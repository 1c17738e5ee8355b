# SPDX-License-Identifier: GPL-2.0-or-later
"""The entry of the guarded boot: a copy of the usual one, with which each failure ends in a reboot.

The usual entry is not changed, because it is not ours, and because its next boot is not guarded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

from ..boot.entries import GUARDED
from ..formats import bls, cmdline
from ..formats.bls import BootEntry
from ..loader.menu_names import snapshot_entry_prefix, snapshot_entry_values

_NAME = "guarded"
# What it takes that nothing waits for a person: a panic of the kernel (kernel-parameters.txt), a
# crash of systemd (systemd(1)), an initramfs of dracut that finds no root (dracut.cmdline(7)).
# What an administrator has chosen of these stays.
_PANIC = ("panic", "10")
_ENDS = (_PANIC, ("systemd.crash_reboot", "1"), ("rd.shell", "0"), ("rd.emergency", "reboot"))


def file_name(entries: Sequence[BootEntry]) -> str:
    """Return the name of its file, which puts it after these normal entries in every menu."""
    return f"{snapshot_entry_prefix(entries)}{_NAME}.conf"


def text_of(usual: BootEntry) -> str:
    """Return the file's text. Raises ValueError if the usual entry has no options to add to."""
    words = cmdline.words(usual.arguments)
    added = [f"{key}={value}" for key, value in _ENDS if not _is_given(words, key)]
    options = " ".join(filter(None, (usual.options, *added, f"{GUARDED}=1")))
    values: dict[str, Optional[str]] = {
        **snapshot_entry_values(f"{usual.title or usual.id} (guarded)"),
        "options": options,
    }
    return bls.rewrite(usual.text, values)


def _is_given(words: Sequence[str], key: str) -> bool:
    """Whether a command line says it already; never to go on after a panic does not count."""
    given = [word.partition("=")[2] for word in words if word.partition("=")[0] == key]
    return bool(given) and (key != _PANIC[0] or given[-1] not in ("", "0"))
