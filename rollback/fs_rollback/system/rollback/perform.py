# SPDX-License-Identifier: GPL-2.0-or-later
"""Carries out a proposed rollback and reads the machine again."""

from __future__ import annotations

from ...core.rollback import journal as journal_file
from ...core.rollback import operations as core_operations
from ...errors import Error, UndoFailedError
from ..check import next_boot
from ..execute import executor
from ..execute.trees import Operations
from ..machine.host import Host
from ..packages import settle_records
from ..pending import state
from ..snapshots import saved_kernels
from ..store import journals, trace
from ..store.store import Store
from . import verify
from .propose import Proposal


def carry_out(
    host: Host,
    store: Store,
    proposal: Proposal,
    user: str,
    observe: executor.Observer = lambda *_: None,
    operations: core_operations.Operations | None = None,
) -> tuple[str, ...]:
    """Carry out the plan and check the machine again; returns only if the next boot finds the root.

    Returns warnings about a later undo, mostly none.

    `observe` is called for each step; `operations` defaults to those of the host. If a step fails,
    everything is undone, and its error is raised, or UndoFailedError if the undo fails. Raises
    VerificationError, also after an undo, if the check fails.
    """
    boot_files, unsaved = _save_kernels(host, store)
    plan = proposal.plan.with_saved_kernels(boot_files)
    journal = journal_file.begun(proposal.situation, plan, user, state.this_boot(host))
    operations = operations or Operations(host)
    with settle_records.no_transaction(host):
        try:
            before = next_boot.links(host)
            executor.execute(store, journal, operations, observe)
            verify.verify(host.root, proposal, before)
        except UndoFailedError:
            raise
        except BaseException:
            # Whatever it was, a signal too: if the rollback still stands, it is taken back.
            done = journals.read(store)
            if done is not None:
                with executor.signals_held_back():
                    executor.undo(store, done, operations)
            raise
    target, replaced = proposal.target, journal.roots.replaced
    trace.tell(host, trace.Event("rolled-back", target.name, target.id, replaced=replaced))
    return unsaved


def _save_kernels(host: Host, store: Store) -> tuple[str, tuple[str, ...]]:
    """Save the kernels of the root that goes; return the list's name, and what went wrong.

    They lie in /boot still, and an undo finds them there: a full disk is no reason to stay with a
    broken system. What would break the way back is for dnf to remove them, and that is said.
    """
    try:
        return saved_kernels.save_outside(host, store), ()
    except Error as error:  # see above
        return "", (
            f"the kernels of the old root could not be saved: {error}. An undo needs one of them:"
            " remove no kernel from /boot until you are sure that you keep this rollback",
        )
