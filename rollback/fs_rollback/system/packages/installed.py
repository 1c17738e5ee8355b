# SPDX-License-Identifier: GPL-2.0-or-later
"""The packages that are installed in a tree, as rpm tells."""

from __future__ import annotations

import os
import tempfile

from ...core.packages.changes import Item
from ..linux import files, process
from ..machine.rpmdb import rpmdb_path

_QUERY = "%{NAME}\\t%{ARCH}\\t%|EPOCH?{%{EPOCH}:}|%{VERSION}-%{RELEASE}\\n"


def installed(tree: int) -> set[Item]:
    """Return the packages in the rpm database of a tree (an open directory), without an action.

    rpm reads a copy: SQLite wants to write beside the database, which a read-only snapshot does
    not allow, and to know its path, which a detached mount does not have. Raises ProcessError.
    """
    place = rpmdb_path(tree)
    if place is None:
        return set()
    # In /run, which has room where the disk is full: a good reason to roll back.
    memory = "/run" if os.access("/run", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="fs-rollback-", dir=memory) as copy:
        for name in files.list_in_tree(tree, place) or []:
            files.copy_from_tree(tree, f"{place}/{name}", os.path.join(copy, name))
        arguments = ("rpm", "--dbpath", copy, "--query", "--all", "--queryformat", _QUERY)
        lines = process.run(arguments).splitlines()
    rows = (line.split("\t") for line in lines)
    return {Item("", row[0], row[1], row[2]) for row in rows if len(row) == 3}
