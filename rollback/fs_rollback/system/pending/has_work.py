# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether there is anything to settle: asked at each boot, so next to nothing is imported."""

from __future__ import annotations

import os

from ...core.snapshots.snapshot import GUARD, STAGING, STORE
from ..linux import files
from ..machine.host import Host
from ..store.store import Store


def has_work(host: Host, store: Store) -> bool:
    """Whether a rollback is not settled, or a process that was killed left something behind.

    Cheap, and needs no lock.
    """
    return store.has_journal() or has_leftovers(host)


def has_guard(host: Host) -> bool:
    """Whether a boot was guarded, and what became of that may have to be said."""
    return files.status_of(host.top_fd, f"{STORE}/{GUARD}", follow=False) is not None


def has_leftovers(host: Host) -> bool:
    """Whether a process that was killed left what it wanted to bring over in the root."""
    return os.path.lexists(os.path.join(host.root, STAGING))
