# SPDX-License-Identifier: GPL-2.0-or-later
"""What `rollback` and `undo` have in common: what would be done is shown, asked about, done."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import Any, Callable, TypeVar

from ... import config, report
from ...core.packages.changes import summary
from ...core.rollback.steps import CarrySubvolume, RootStep
from ...core.snapshots.names import grouped
from ...core.snapshots.record import PackageChange, package_dict
from ...core.snapshots.snapshot import Snapshot
from ...errors import KernelError, ProcessError, UsageError
from ...system.execute import executor
from ...system.execute.trees import Operations
from ...system.hooks.transaction import requested_by
from ...system.machine.host import Host
from ...system.packages import reverts as packages_reverts
from ...system.pending import settle, state
from ...system.rollback import kept_paths as paths_to_keep
from ...system.rollback import perform
from ...system.rollback import propose as proposals
from ...system.store.store import Store
from .. import session

_SHOWN = 12
Found = TypeVar("Found")


@contextmanager
def opened(args: Namespace) -> Iterator[tuple[Host, Store]]:
    """Open the machine to change it, or for a dry run only to look."""
    if not args.dry_run:
        with session.writing(args.root) as writing:
            yield writing.host, writing.store
        return
    with session.reading(args.root) as (host, store):
        if store is None:
            raise session.no_store(host)
        yield host, store


def _keep_paths(args: Namespace, host: Host) -> tuple[str, ...]:
    configured = () if args.no_keep else session.configuration(host).keep
    try:
        asked = [config.checked_path(path) for path in args.keep]
    except ValueError as error:
        raise UsageError(f"--keep takes an absolute path, not {error}") from error
    for path in asked:
        if not paths_to_keep.expand(host.root_fd, path):
            raise UsageError(f"--keep: there is no {path}", hint="Nothing was changed.")
    return (*configured, *asked)


def propose_and_do(
    args: Namespace, host: Host, store: Store, target: Snapshot, verb: str, found: state.Window
) -> int:
    """Ask, and do it; a rollback that waits, if there is one, is `found` and ends with this one."""
    keep = _keep_paths(args, host)
    supersedes = found.waiting is not state.Waiting.NOTHING
    now = datetime.now().astimezone()
    proposal = proposals.propose(host, store, target, keep, now, supersedes=supersedes)
    reverts = _reverts(host, proposal)
    answer: dict[str, Any] = {
        "target": target.name,
        "steps": report.steps_json(proposal.plan.steps),
        "reverts": reverts,
        "warnings": list(proposal.warnings),
        "done": False,
    }
    if not args.json:
        _print_proposal(verb, proposal, reverts)
    if args.dry_run or not session.confirm(f"{verb} to {target.name}?", yes=args.yes):
        return session.unchanged(args, answer)
    with executor.finishing():
        if supersedes:
            for line in settle.supersede(host, store, found, Operations(host)):
                session.note(line)
            # What was brought over may have changed which subvolumes are nested in the root.
            proposal = proposals.propose(host, store, target, keep, now)
        observe = partial(_progress, len(proposal.plan.steps))
        user = requested_by(dict(os.environ))
        for warning in perform.carry_out(host, store, proposal, user, observe):
            answer["warnings"].append(warning)
            session.note(f"warning: {warning}")
        answer.update(done=True, replaced=proposal.situation.replaced, next_step="reboot")
        return session.reply(
            args,
            answer,
            f"Rolled back: the next boot uses a copy of {target.name}.\n"
            f"The old root is kept, whole, as {proposal.situation.replaced}.\n"
            "Now: reboot   (or take it back: fs-rollback undo)",
        )


def _reverts(host: Host, proposal: proposals.Proposal) -> dict[str, Any]:
    """Return what goes back, as data; None where it cannot be known."""
    target, root = proposal.target, proposal.situation.layout.root
    packages = _known("packages", lambda: packages_reverts.packages(host, target))
    advisories = _known(
        "security advisories", lambda: packages_reverts.advisories(host, packages or ())
    )
    written = _known("files", lambda: packages_reverts.written_files(host, root, target))
    return {
        "packages": None if packages is None else [package_dict(change) for change in packages],
        "advisories": advisories,
        "files": None if written is None else proposals.lost_files(proposal, written),
        "kept": list(proposal.situation.keep),
        "carried": ["/" + path for path in proposal.carried],
        "mounted": list(proposal.mounted),
    }


def _known(what: str, ask: Callable[[], Found | None]) -> Found | None:
    """Return the answer, None where it could not be had, which is no reason to refuse."""
    try:
        return ask()
    except (ProcessError, KernelError, OSError) as error:  # said as unknown
        session.note(f"the {what} cannot be compared: {error}")
        return None


def _print_proposal(verb: str, proposal: proposals.Proposal, reverts: dict[str, Any]) -> None:
    target = proposal.target
    print(f"{verb} to {target.name}, {report.local_time(target.created)}", end="")
    print(f" ({report.what(target)})" if report.what(target) else "")
    print("\nWhat is done:")
    for numbers, sentence in _sentences(proposal.plan.steps):
        print(f" {numbers:>2}. {report.clean(sentence)}")
    print("\nWhat goes back:")
    _print_packages(reverts["packages"])
    for advisory in reverts["advisories"] or []:
        print(f"  Security: this applies again: {report.clean(advisory)}")
    _print_files(reverts["files"])
    _print_what_stays(reverts)
    for warning in proposal.warnings:
        print(f"\nWarning: {report.clean(warning)}")
    print()


def _sentences(steps: Sequence[RootStep]) -> Iterator[tuple[str, str]]:
    """Give the numbers of steps and what they do; many nested subvolumes are one sentence."""
    carried = [n for n, step in enumerate(steps, start=1) if isinstance(step, CarrySubvolume)]
    for number, step in enumerate(steps, start=1):
        if len(carried) <= _SHOWN or not isinstance(step, CarrySubvolume):
            yield str(number), step.describe()
        elif number == carried[0]:
            paths = [f"/{s.path}" for s in steps if isinstance(s, CarrySubvolume)]
            where = ", ".join(grouped(paths))
            sentence = f"Carry over {len(paths)} nested subvolumes as they are now: {where}."
            yield f"{number}-{carried[-1]}", sentence


def _print_what_stays(reverts: dict[str, Any]) -> None:
    print("\nWhat stays as it is now:")
    for path in reverts["kept"]:
        print(f"  {report.clean(path)}")
    for path in grouped(reverts["carried"]):
        kind = "a nested subvolume" if path.startswith("/") else "nested subvolumes"
        print(f"  {report.clean(path)} ({kind})")
    if reverts["mounted"]:
        points = ", ".join(map(report.clean, reverts["mounted"]))
        print(f"  {points} (mounted from outside the root)")
    if not (reverts["kept"] or reverts["carried"] or reverts["mounted"]):
        print("  Nothing in the root; what is outside it.")


def _print_packages(rows: list[dict[str, Any]] | None) -> None:
    if rows is None:
        print("  Packages: they could not be compared.")
        return
    found = [PackageChange(*row.values()) for row in rows]
    print(f"  Packages: {summary(found) or 'none'}.")
    if found:
        table = report.package_table(found[:_SHOWN])
        print("\n".join("    " + line for line in table.splitlines()))
    if len(found) > _SHOWN:
        print(f"    ... and {len(found) - _SHOWN} more (--json has them all)")


def _print_files(paths: list[str] | None) -> None:
    if paths is None:
        print("  Files: they could not be compared.")
        return
    etc = [path for path in paths if path.startswith("/etc/")]
    others = packages_reverts.grouped(path for path in paths if not path.startswith("/etc/"))
    if not paths:
        print("  Files: none was written since outside of what stays.")
    for path in etc[:_SHOWN]:
        print(f"  {report.clean(path)}, written since, goes back.")
    if len(etc) > _SHOWN:
        print(f"  ... and {len(etc) - _SHOWN} more in /etc (--json has them all)")
    for path, count in sorted(others.items()):
        print(f"  {report.clean(path)}: {count} {'file' if count == 1 else 'files'} written since.")
    if others:
        print("  (To take one of these along as it is now: --keep PATH. --json has every file.)")


def _progress(count: int, moment: executor.Moment, index: int, step: RootStep) -> None:
    if moment is executor.Moment.BEFORE and sys.stderr.isatty():
        session.note(f"step {index + 1} of {count}: {report.clean(step.describe())}")
