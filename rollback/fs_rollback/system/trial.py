# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine that was booted from the menu entry of a snapshot: it runs a writable copy of that.

What is rolled back then is not what runs, but the machine's own root: that is mounted for the
command alone, as in a rescue system, and everything else is as with --root.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Callable

from . import executor, host, store, window


@contextmanager
def system(note: Callable[[str], None]) -> Iterator[str]:
    """Mount the machine's own root for this process and give its directory.

    While a rollback of this boot waits for its reboot it is the old root, which that has replaced:
    as if the machine ran it, so that the rollback can be taken back. Raises what rescue.mounted
    raises.
    """
    from . import rescue

    with host.opened("/") as machine, store.opened(machine) as found:
        journal = executor.read_journal(found) if found is not None else None
        device = machine.mount.source
    waits = journal is not None and journal.boot_id == window.boot_id()
    root_id = journal.old_id if journal is not None and waits else None
    with rescue.mounted(device, note, beside_trial=True, root_id=root_id) as root:
        yield root
