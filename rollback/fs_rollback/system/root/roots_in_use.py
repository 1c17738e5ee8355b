# SPDX-License-Identifier: GPL-2.0-or-later
"""Which subvolumes are in use: what runs, what boots next, what is mounted."""

from __future__ import annotations

from ...core.snapshots.snapshot import Roots, origin
from ...errors import RefusedError
from ..linux import btrfs
from ..machine.host import Host
from ..store import guards
from ..store.store import is_journal_in
from . import root_lines


def read(host: Host) -> Roots:
    """Return which subvolumes are in use; `next` is 0 where the machine's files do not tell.

    They may be wrong together and a boot finds a root all the same: `named` is what it may be then.
    """
    named: frozenset[int] = frozenset()
    try:
        next_id = root_lines.read_layout(host).root.id
    except RefusedError:  # see above
        next_id, named = 0, root_lines.named_as_root(host)
    waiting = 0
    if is_journal_in(host.top_fd):
        from ..store import journals

        # One that cannot be read keeps everybody from changing anything, who settles it first.
        journal = journals.glance(host.top_fd)
        waiting = journal.old_id if journal else 0
    # In a trial what runs is another copy than the machine's own root.
    running = host.by_id(host.running_id or host.root_id)
    copied = origin(running, host.subvolumes)
    armed = guards.glance(host.top_fd).armed
    way_back = host.by_uuid(armed.uuid) if armed is not None else None
    return Roots(
        host.root_id,
        next_id,
        host.default_id,
        host.mounted_ids,
        waiting,
        named,
        copied.id if copied else 0,
        way_back.id if way_back else 0,
        _around(host, host.mounted_ids | {host.default_id}),
    )


def _around(host: Host, used: frozenset[int]) -> frozenset[int]:
    """Return in which subvolumes those of `used` lie that have no path which could be told."""
    left = used - {subvolume.id for subvolume in host.subvolumes}
    if not left:  # nearly always
        return left
    parents, found = btrfs.parents(host.top), set[int]()
    for number in left:  # one that was deleted has no parent
        while (number := parents.get(number, 0)) and number not in found:
            found.add(number)
    return frozenset(found)
