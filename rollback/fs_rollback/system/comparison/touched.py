# SPDX-License-Identifier: GPL-2.0-or-later
"""The inodes of a subvolume that were changed since a generation; each change is looked for once.

A rollback asks twice: for the question, and when it makes the kept paths as they are by then.
"""

from __future__ import annotations

from ...core.snapshots.snapshot import Subvolume
from ..linux import syscalls, tree_search
from ..machine.host import Host


def touched(host: Host, subvolume: Subvolume, tree: int, since: int) -> dict[int, list[int]]:
    """Return their numbers as tree_search.touched_parents does; some may be deleted by now.

    The subvolume is open as `tree`. What was found before in it, or in what it is a snapshot of,
    is not looked for again. Raises OSError.
    """
    until, known = since, dict[int, list[int]]()
    has_source = subvolume.parent_uuid.strip("0")
    source = host.by_uuid(subvolume.parent_uuid) if has_source else None
    if (subvolume.id, since) in host.touched:
        until, known = host.touched[subvolume.id, since]
    elif source is not None and (source.id, since) in host.touched:
        before = host.touched[source.id, since]
        if before[0] < subvolume.born:  # all of it was in the source by then
            until, known = before
    # What belongs to an older transaction than the present one is in the tree, whole.
    settled = max(until, syscalls.filesystem_generation(tree) - 1)
    found = {**known, **tree_search.touched_parents(tree, until)}
    host.touched[subvolume.id, since] = settled, found
    return found
