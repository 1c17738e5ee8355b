# SPDX-License-Identifier: GPL-2.0-or-later
"""fs-snapshot for dnf 4: a snapshot of the btrfs root before each transaction.

A thin adapter: it translates dnf's transaction and dnf's errors, the rest is in fs_rollback. All
imports are done when dnf loads it: by the time the last hook runs, the files of this very package
may be newer, or gone.
"""

from __future__ import annotations

import functools
import logging
import os
import sys
import weakref
from typing import TYPE_CHECKING, Any, Callable, Optional

import dnf
import dnf.exceptions
import libdnf.transaction

try:
    from fs_rollback.core.packages import changes
    from fs_rollback.core.snapshots.record import Outcome, Transaction

    # removal and settle: loaded now, because they may be gone when `transaction` runs.
    from fs_rollback.system.hooks import protection, transaction
    from fs_rollback.system.linux import removal  # noqa: F401
    from fs_rollback.system.pending import settle  # noqa: F401
except ImportError as error:
    # dnf would say so in one line and go on without a snapshot.
    _missing: Optional[ImportError] = error
else:
    _missing = None

if TYPE_CHECKING:
    from collections.abc import Sequence

logger = logging.getLogger("dnf.plugin")

_ACTIONS = {
    value: name.partition("_")[2].lower()
    for name, value in vars(libdnf.transaction).items()
    if name.startswith("TransactionItemAction_")
}


class FsSnapshot(dnf.Plugin):  # type: ignore[misc]
    """The hooks; dnf calls pre_transaction right before rpm runs, and transaction afterwards."""

    name = "fs-snapshot"

    def __init__(self, base: dnf.Base, cli: Optional[dnf.cli.Cli]) -> None:
        super().__init__(base, cli)
        self._base = base
        self._taken: Optional[transaction.Taken] = None
        if _missing is None:
            base.do_transaction = self._ending(base.do_transaction)

    def _ending(self, do_transaction: Callable[..., Any]) -> Callable[..., Any]:
        """Have the store's lock end with dnf's transaction: no hook is called where that fails.

        A command ends then, but a program that uses dnf as a library goes on.
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
        """Take the snapshot, or stop dnf: only its own errors do that."""
        if _missing is not None:
            self._refuse_without_library(_missing)
            return
        self._release()  # of an earlier transaction that never reached its end
        if not self._concerns_us():
            return
        found = protection.protect(self._describe, _HOW_TO_GO_ON, _warn, reads_switch=False)
        if found.stop:
            raise dnf.exceptions.Error(f"fs-snapshot: {found.stop}")
        self._taken = found.taken
        for level, texts in (
            (logging.DEBUG, (found.debug,)),
            (logging.INFO, (found.line,)),
            (logging.WARNING, found.warnings),
        ):
            for text in filter(None, texts):
                logger.log(level, "fs-snapshot: %s", text)

    def _refuse_without_library(self, reason: ImportError) -> None:
        # The root of a btrfs subvolume has inode 256, whatever cannot be imported.
        is_ours = os.stat("/").st_ino == 256 and not any(map(os.path.exists, _NOT_OURS))
        if self._concerns_us() and is_ours:
            raise dnf.exceptions.Error(f"fs-snapshot cannot be loaded: {reason}. {_WITHOUT}.")

    def _concerns_us(self) -> bool:
        # `group mark` runs the hooks with an empty transaction.
        return bool(self._base.transaction) and self._base.conf.installroot == "/"

    def _describe(self) -> Transaction:
        # API users (dnf-automatic, Ansible) have no command line of dnf's.
        arguments = getattr(self._base, "args", None)
        line = ("dnf", *map(str, arguments)) if arguments else tuple(sys.argv)
        # Not through tsi.pkg: it raises KeyError for an item that only changes a reason, and
        # each kernel update has one.
        items = (
            changes.Item(_ACTIONS.get(tsi.action, "unknown"), str(tsi.name), tsi.arch, _evr(tsi))
            for tsi in self._base.transaction
        )
        return Transaction(
            tool="dnf4",
            command_line=transaction.command_line(line),
            user=transaction.requested_by(dict(os.environ)),
            packages=changes.changes(items),
        )

    def transaction(self) -> None:
        """Record the end. dnf calls this after a failed scriptlet too; nothing is raised here."""
        if self._taken is None:
            return
        taken, self._taken = self._taken, None
        try:
            row = self._base.history.last()
            # return_code is 0 where the whole transaction was done.
            outcome = Outcome.FAILED if row and row.return_code else Outcome.DONE
            number = row.tid if row else None
            problems: Sequence[str] = transaction.after(taken, outcome, number)
        except Exception as error:  # noqa: BLE001 - see above
            problems = [str(error)]
        for problem in problems:
            _warn(problem)


# As in fs_rollback.system.hooks.transaction, which may be what cannot be imported.
_NOT_OURS = ("/run/ostree-booted", "/run/systemd/container", "/run/.containerenv")
_WITHOUT = "Nothing was changed. To go on without a snapshot: --disableplugin=fs-snapshot"
_HOW_TO_GO_ON = f"{_WITHOUT}, or on_failure = warn in /etc/fs-rollback.conf."


def _warn(text: str) -> None:
    logger.warning("fs-snapshot: %s", text)


def _evr(item: Any) -> str:
    evr = str(item.evr)
    return evr[2:] if evr.startswith("0:") else evr
