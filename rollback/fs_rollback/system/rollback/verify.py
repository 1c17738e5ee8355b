# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks the machine after a rollback, from a new mount, as the next boot will read it."""

from __future__ import annotations

from collections.abc import Sequence

from ...core.boot import judge
from ...core.boot.findings import Finding
from ...core.boot.layout import decide
from ...core.snapshots.snapshot import STORE
from ...errors import Error, VerificationError
from ..check import next_boot
from ..linux import btrfs, files
from ..machine import host, kernels
from ..machine.host import Host
from ..root import root_lines
from .propose import Proposal


def verify(root: str, proposal: Proposal, before: Sequence[Finding]) -> None:
    """Return if the next boot finds the new root, complete; raise VerificationError if not.

    `before` is what next_boot.links() said before the rollback: a fault that was there then does
    not count, so that a machine that is odd already can be rolled back.
    """
    try:
        with host.opened(root) as machine:
            _verify_root(machine, proposal)
            _verify_replaced(machine, proposal)
            _verify_chain(machine, before)
    except VerificationError:
        raise
    except (Error, OSError) as error:
        raise VerificationError(f"the machine could not be checked again: {error}") from error


def verify_taken_back(machine: Host, old_uuid: str, *, running: bool) -> None:
    """Return if the next boot finds the old root again; raise VerificationError if not.

    What it says itself is read, wherever it lies: what is mounted here may have been the new root.
    `running`: this boot was told of its root what the next will be told.
    """
    machine.forget()
    old = machine.by_uuid(old_uuid)
    if old is None:
        raise VerificationError(
            "the previous root no longer exists", hint="See 'fs-rollback list'."
        )
    place = machine.root if old.id == machine.root_id else machine.path(old.path)
    with files.opened(place) as tree:
        statements = root_lines.deciding(machine, tree, running=running, root_id=old.id)
    found = decide(statements, machine.subvolumes, machine.default_id, old.id).root
    if found.uuid != old_uuid:
        raise VerificationError(
            f"the next boot would use /{found.path} (ID {found.id}), not the previous root",
            hint="'fs-rollback status' shows the state of the machine.",
        )


def _verify_root(machine: Host, proposal: Proposal) -> None:
    old = proposal.situation.layout.root
    layout = root_lines.read_next_layout(machine)
    _expect(layout.root.id != old.id, "the next boot would still use the old root")
    subvolume = proposal.target.subvolume
    expected = subvolume.uuid if subvolume else ""
    if expected.strip("0"):
        _expect(layout.root.parent_uuid == expected, "the next root is not a copy of the snapshot")
    _expect(not layout.root.read_only, "the next root is read-only")
    with files.opened(machine.path(layout.root.path)) as tree:
        for path in ("usr", "etc"):
            found = files.list_in_tree(tree, path) is not None
            _expect(found, f"the next root has no /{path}")
        with files.opened(machine.path(proposal.target.path)) as target:
            missing = set(kernels.with_modules(target)) - set(kernels.with_modules(tree))
        _expect(not missing, f"the next root lacks the modules of {', '.join(sorted(missing))}")
    for path in proposal.carried:
        carried = btrfs.is_subvolume(machine.path(f"{layout.root.path}/{path}"))
        _expect(carried, f"the nested subvolume /{path} is missing in the next root")


def _verify_chain(machine: Host, before: Sequence[Finding]) -> None:
    """Check that no link of the next boot's chain was broken by the rollback."""
    for link in judge.newly_broken(before, next_boot.links(machine)):
        _expect(
            condition=False, message=f"the next boot would fail at its {link.name}: {link.text}"
        )


def _verify_replaced(machine: Host, proposal: Proposal) -> None:
    """Check that the old root is whole and can be found."""
    old = proposal.situation.layout.root
    if not old.path:
        return
    path = f"{STORE}/{proposal.situation.replaced}"
    kept = machine.by_path(path)
    _expect(kept is not None and kept.id == old.id, f"the old root is not at /{path}")


def _expect(condition: bool, message: str) -> None:
    if not condition:
        raise VerificationError(
            message,
            hint="The rollback was undone, and the machine is as before; 'fs-rollback log' has a"
            " record of it. 'fs-rollback list' shows other snapshots to roll back to.",
        )
