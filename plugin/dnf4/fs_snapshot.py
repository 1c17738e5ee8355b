# SPDX-License-Identifier: GPL-2.0-or-later
"""fs-snapshot for dnf 4: a snapshot of the btrfs root before each transaction.

dnf loads this in every command, `dnf search` included, so it imports nothing that dnf has not
imported already. The rest is loaded at the first transaction that concerns it, all at once: by the
time the last hook runs, the files of this very package may be newer, or gone.
"""

from __future__ import annotations

import functools
import os
import weakref

import dnf
import dnf.exceptions

TYPE_CHECKING = False  # typing takes longer to import than all that dnf lacks without it
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from fs_rollback.system.hooks.transaction import Taken


class FsSnapshot(dnf.Plugin):  # type: ignore[misc]
    """The hooks; dnf calls pre_transaction right before rpm runs, and transaction afterwards."""

    name = "fs-snapshot"

    def __init__(self, base: dnf.Base, cli: dnf.cli.Cli | None) -> None:
        super().__init__(base, cli)
        self._base = base
        self._taken: Taken | None = None
        base.do_transaction = self._ending(base.do_transaction)

    def _ending(self, do_transaction: Callable[..., Any]) -> Callable[..., Any]:
        """Release the store's lock when dnf's transaction ends: if it fails, dnf calls no hook.

        A command would end then, but a program that uses dnf as a library continues.
        """
        release = weakref.WeakMethod(self._release)  # or a closed Base would keep the plugin alive

        @functools.wraps(do_transaction)
        def wrapper(*arguments: Any, **named: Any) -> Any:
            try:
                return do_transaction(*arguments, **named)
            finally:
                if (ours := release()) is not None:
                    ours()

        return wrapper

    def _release(self) -> None:
        taken, self._taken = self._taken, None
        if taken is not None:
            taken.release()

    def pre_transaction(self) -> None:
        """Take the snapshot, or stop dnf: only dnf's own error class does that."""
        self._release()  # of an earlier transaction that never reached its end
        # `group mark` runs the hooks with an empty transaction.
        if not self._base.transaction or self._base.conf.installroot != "/":
            return
        try:
            import fs_snapshot_dnf4

            found = fs_snapshot_dnf4.before(self._base, _WITHOUT)
        except Exception as error:  # noqa: BLE001 - dnf would say so and go on without a snapshot
            _refuse_without_library(error)
            return
        if found.stop:
            raise dnf.exceptions.Error(f"fs-snapshot: {found.stop}")
        self._taken = found.taken

    def transaction(self) -> None:
        """Record the end. dnf calls this after a failed scriptlet too; nothing is raised here."""
        taken, self._taken = self._taken, None
        if taken is not None:
            import fs_snapshot_dnf4  # loaded already: there was a first hook

            fs_snapshot_dnf4.after(self._base, taken)


# As in fs_rollback.system.hooks.transaction, which may be what cannot be loaded.
_NOT_OURS = ("/run/ostree-booted", "/run/systemd/container", "/run/.containerenv")
_WITHOUT = "Nothing was changed. To go on without a snapshot: --disableplugin=fs-snapshot"


def _refuse_without_library(reason: Exception) -> None:
    """Stop dnf, but not where there is nothing to protect."""
    # The root of a btrfs subvolume has inode 256, whatever cannot be loaded.
    if os.stat("/").st_ino == 256 and not any(map(os.path.exists, _NOT_OURS)):
        raise dnf.exceptions.Error(f"fs-snapshot cannot be loaded: {reason}. {_WITHOUT}.")
