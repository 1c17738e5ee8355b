# SPDX-License-Identifier: GPL-2.0-or-later
"""What the plugin for dnf 4 does in a transaction: fs_snapshot.py loads this at the first one.

A thin adapter: it translates dnf's transaction, the rest is in fs_rollback.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING, Any

import libdnf.transaction

from fs_rollback.core.packages import changes
from fs_rollback.core.snapshots.record import Outcome, Transaction
from fs_rollback.report import clean
from fs_rollback.system.hooks import protection, transaction

if TYPE_CHECKING:
    from collections.abc import Sequence

    import dnf

_LOGGER = logging.getLogger("dnf.plugin")
_ACTIONS = {
    value: name.partition("_")[2].lower()
    for name, value in vars(libdnf.transaction).items()
    if name.startswith("TransactionItemAction_")
}


def before(base: dnf.Base, without: str) -> protection.Protection:
    """Take the snapshot and log what there is to say; the caller stops dnf if `stop` is set.

    `without` is the advice on how to continue without a snapshot.
    """
    way_out = f"{without}, or on_failure = warn in /etc/fs-rollback.conf."
    found = protection.protect(lambda: _describe(base), way_out, _warn, reads_switch=False)
    if found.stop:
        return found._replace(stop=clean(found.stop))
    for level, texts in (
        (logging.DEBUG, (found.debug,)),
        (logging.INFO, (found.line,)),
        (logging.WARNING, found.warnings),
    ):
        for text in filter(None, texts):
            _LOGGER.log(level, "fs-snapshot: %s", clean(text))
    return found


def after(base: dnf.Base, taken: transaction.Taken) -> None:
    """Record how the transaction ended. Raises nothing: it has run."""
    try:
        row = base.history.last()
        # return_code is 0 where the whole transaction was done.
        outcome = Outcome.FAILED if row and row.return_code else Outcome.DONE
        number = row.tid if row else None
        problems: Sequence[str] = transaction.after(taken, outcome, number)
    except Exception as error:  # noqa: BLE001 - see above
        problems = [str(error)]
    for problem in problems:
        _warn(problem)


def _describe(base: dnf.Base) -> protection.Described:
    # API users (dnf-automatic, Ansible) have no command line of dnf's.
    arguments = getattr(base, "args", None)
    line = ("dnf", *map(str, arguments)) if arguments else tuple(sys.argv)
    # Not through tsi.pkg: it raises KeyError for an item that only changes a reason, and
    # each kernel update has one.
    items = (
        changes.Item(_ACTIONS.get(tsi.action, "unknown"), str(tsi.name), tsi.arch, _evr(tsi))
        for tsi in base.transaction
    )
    found = Transaction(
        tool="dnf4",
        command_line=transaction.command_line(line),
        user=transaction.requested_by(dict(os.environ)),
        packages=changes.changes(items),
    )
    return protection.Described(found, _coming(base))


def _coming(base: dnf.Base) -> int | None:
    """Return the installed size of the packages that come, None if dnf does not tell it."""
    try:
        return sum(int(package.installsize) for package in base.transaction.install_set)
    except (AttributeError, KeyError, TypeError):  # less is asked of the disk then
        return None


def _warn(text: str) -> None:
    _LOGGER.warning("fs-snapshot: %s", clean(text))


def _evr(item: Any) -> str:
    evr = str(item.evr)
    return evr[2:] if evr.startswith("0:") else evr
