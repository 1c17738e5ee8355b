# SPDX-License-Identifier: GPL-2.0-or-later
"""Decides for every package manager: take a snapshot, take none, or stop the transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, NamedTuple

from ...core.snapshots.record import Transaction
from ...errors import Error, KernelError, RefusedError
from ..linux import files
from ..linux.process import Say
from ..machine import configuration, requester, unprotected
from ..packages import dnf4_state
from . import transaction

if TYPE_CHECKING:
    from ...core.snapshots.events import Name


class Described(NamedTuple):
    """A transaction, and the installed size of what comes with it; None where that is unknown."""

    transaction: Transaction
    coming: int | None


class Protection(NamedTuple):
    """What a plugin does next: stop with a sentence, or continue and print these lines.

    `stop` is "" if the transaction may run. `line` is printed for each transaction, `warnings`
    are printed even if that line is not wanted, `debug` is for debug logs only.
    """

    taken: transaction.Taken | None = None
    stop: str = ""
    line: str = ""
    warnings: tuple[str, ...] = ()
    debug: str = ""


def protect(
    describe: Callable[[], Described | None], way_out: str, said: Say, *, reads_switch: bool
) -> Protection:
    """Take the snapshot before a transaction.

    `describe` is called only if a snapshot is taken, and returns None if no package changes.
    `way_out` is a sentence on how this transaction can run without a snapshot. `said` is called
    with what this waits for. `reads_switch` is true for package managers that do not read the
    switch of fs-snapshot themselves, as dnf 4 does. Raises nothing: after a failure `on_failure`
    decides about the transaction; a refusal always stops it.
    """
    config, broken = configuration.usable()
    wanted: Transaction | None = None
    try:
        reason = unprotected.unprotected() or (_switched_off() if reads_switch else None)
        if reason is not None:
            return _without(reason)
        if broken is not None:
            raise broken
        described = describe()
        if described is None:
            return Protection()
        wanted = described.transaction
        result = transaction.before(wanted, config=config, said=said, coming=described.coming)
        if isinstance(result, unprotected.Unprotected):
            return _without(result)
    except RefusedError as error:  # said by the plugin, and the transaction stops
        _tell("refused", error, wanted)
        return Protection(stop=_sentence(error))
    except Exception as error:  # noqa: BLE001 - whatever it is, it decides about the transaction
        _tell("failed", error, wanted)
        if config.on_failure == "abort":
            return Protection(stop=f"{_sentence(error)} {way_out}")
        return Protection(
            warnings=(f"{_sentence(error)} The transaction continues without a snapshot.",)
        )
    return Protection(
        taken=result,
        line=f"snapshotting /: {result.path}",
        warnings=(*result.warnings, *result.menu.problems),
    )


def _tell(what: Name, error: Exception, wanted: Transaction | None) -> None:
    from ..store import trace

    event = trace.Event(what, reason=_sentence(error))
    if wanted is not None:
        line = requester.in_one_line(wanted.command_line)
        event = event._replace(user=wanted.user, command=line)
    trace.tell(None, event)


def _switched_off() -> unprotected.Unprotected | None:
    try:
        with files.opened("/") as tree:
            off = dnf4_state.switched_off(tree)
    except KernelError:
        return None  # what cannot be read switches nothing off
    return unprotected.Unprotected(off.problem, True) if off is not None else None


def _without(reason: unprotected.Unprotected) -> Protection:
    if reason.quiet:
        return Protection(debug=reason.reason)
    return Protection(warnings=(reason.reason,))


def _sentence(error: Exception) -> str:
    return error.line if isinstance(error, Error) else f"{error}."
