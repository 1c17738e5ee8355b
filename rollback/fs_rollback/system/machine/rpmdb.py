# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a tree has its rpm database."""

from __future__ import annotations

from ..linux import files

# Fedora's place, that of EL 8 and 9; and where rpm is told which.
RPMDB_PLACES = ("usr/lib/sysimage/rpm", "var/lib/rpm")


_RPM_MACROS = ("usr/lib/rpm/macros", "etc/rpm/macros")


def rpmdb_path(tree: int) -> str | None:
    """Return where the rpm database of a tree (an open directory) is, None if it has none."""
    found = []
    for path in RPMDB_PLACES:
        names = files.list_in_tree(tree, path) or []
        if any(name.startswith("rpmdb.") or name == "Packages" for name in names):
            found.append(path)
    if len(found) < 2 or files.real_path(tree, found[0]) == files.real_path(tree, found[1]):
        return found[0] if found else None
    texts = (files.read_in_tree(tree, macros) or "" for macros in _RPM_MACROS)
    lines = (line.split() for text in texts for line in text.split("\n"))
    said = [words[1] for words in lines if len(words) == 2 and words[0] == "%_dbpath"]
    # "%{_var}/lib/rpm", for instance
    return next((p for p in found if said and said[-1].endswith(p.partition("/")[2])), found[0])
