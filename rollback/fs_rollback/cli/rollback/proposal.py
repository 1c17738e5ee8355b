# SPDX-License-Identifier: GPL-2.0-or-later
"""What `rollback` and `undo` have in common: a plan and its consequences, shown and carried out."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Callable, NamedTuple, TypeVar

from ... import config, report
from ...core.packages.changes import summary
from ...core.rollback.steps import CarrySubvolume, RootStep
from ...core.snapshots.names import grouped
from ...core.snapshots.record import PackageChange, package_dict
from ...core.snapshots.snapshot import Snapshot
from ...errors import KernelError, ProcessError, RefusedError, UsageError
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
_FEW = 3
Found = TypeVar("Found")


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


class GoBack(NamedTuple):
    """A snapshot, or an older root, becomes the root of the next boot: an Intent of ask.py.

    A rollback that waits, if there is one, is `found` and ends with this one.
    """

    verb: str
    keep: tuple[str, ...]
    found: state.Window
    proposal: proposals.Proposal
    reverts: dict[str, Any]

    @property
    def question(self) -> str:
        """What is asked at the end."""
        return f"{self.verb} to {self.proposal.target.name}?"

    @property
    def answer(self) -> dict[str, Any]:
        """What --json says of it."""
        return {
            "target": self.proposal.target.name,
            "steps": report.steps_json(self.proposal.plan.steps),
            "reverts": self.reverts,
            "warnings": list(self.proposal.warnings),
            "done": False,
        }

    def show(self, args: Namespace) -> None:
        """Print the plan and what goes back."""
        del args
        _print_proposal(self.verb, self.proposal, self.reverts)

    def differences(self, shown: Any) -> list[str]:
        """Return what is other than in what was `shown`: the target, the steps, what reverts."""
        if not isinstance(shown, GoBack):
            return ["no rollback waits for a reboot any more"]
        found = []
        if self.proposal.target.subvolume != shown.proposal.target.subvolume:
            found.append(f"{self.proposal.target.name} is not what it was")
        if self.ends_another != shown.ends_another:
            found.append("a rollback waits" if self.ends_another else "no rollback waits any more")
        steps, before = map(proposals.steps_alone, (self.proposal, shown.proposal))
        if steps != before:
            new = [step.describe() for step in steps if step not in before]
            found.append(f"other steps: {' '.join(new)}" if new else "fewer steps")
        found += _differing_lists(self.reverts, shown.reverts)
        if self.proposal.warnings != shown.proposal.warnings:
            found.append("other warnings")
        return found

    @property
    def ends_another(self) -> bool:
        """Whether a rollback waits that ends with this one."""
        return self.found.waiting is not state.Waiting.NOTHING

    def carry_out(self, args: Namespace, host: Host, store: Store) -> int:
        """Do it, and say how it ended."""
        answer, proposal = self.answer, self.proposal
        with executor.finishing():
            if self.ends_another:
                for line in settle.supersede(host, store, self.found, Operations(host)):
                    session.note(line)
                # What was brought over may have changed which subvolumes are nested in the root.
                now = datetime.now().astimezone()
                proposal = proposals.propose(host, store, proposal.target, self.keep, now)
            observe = partial(_progress, len(proposal.plan.steps))
            user = requested_by(dict(os.environ))
            for warning in perform.carry_out(host, store, proposal, user, observe):
                answer["warnings"].append(warning)
                session.note(f"warning: {warning}")
            replaced = proposal.situation.replaced
            answer.update(done=True, replaced=replaced, next_step="reboot")
            return session.reply(
                args,
                answer,
                f"Rolled back: the next boot uses a copy of {proposal.target.name}.\n"
                f"The old root is kept, whole, as {replaced}.\n"
                "Now: reboot   (or take it back: fs-rollback undo)",
            )


def go_back(
    args: Namespace, host: Host, store: Store, target: Snapshot, verb: str, found: state.Window
) -> GoBack:
    """Decide on a rollback to `target`; `found` is what waits. Raises Error, see propose()."""
    keep = _keep_paths(args, host)
    now = datetime.now().astimezone()
    supersedes = found.waiting is not state.Waiting.NOTHING
    proposal = proposals.propose(host, store, target, keep, now, supersedes=supersedes)
    return GoBack(verb, keep, found, proposal, _reverts(host, proposal))


def same_again(shown: GoBack, snapshots: Sequence[Snapshot]) -> Snapshot:
    """Return the snapshot that was `shown`, known by its UUID. Raises RefusedError without it."""
    was = shown.proposal.target.subvolume
    for snapshot in snapshots:
        subvolume = snapshot.subvolume
        if subvolume and was and (subvolume.id, subvolume.uuid) == (was.id, was.uuid):
            return snapshot
    raise RefusedError(
        f"{shown.proposal.target.name} was deleted",
        hint="'fs-rollback list' shows what is left to go back to.",
    )


def _differing_lists(now: dict[str, Any], shown: dict[str, Any]) -> list[str]:
    """Return in what the consequences differ: in packages, advisories, and files of /etc."""
    found = []
    for key, what in (("packages", "packages"), ("advisories", "advisories"), ("files", "/etc")):
        sides = [_names(key, reverts[key]) for reverts in (now, shown)]
        changed = sorted(sides[0] ^ sides[1])
        if changed:
            more = f" and {len(changed) - _FEW} more" if len(changed) > _FEW else ""
            found.append(f"{what}: {', '.join(changed[:_FEW])}{more}")
    return found


def _names(key: str, rows: Iterable[Any] | None) -> set[str]:
    if key == "packages":
        return {f"{r['name']} {r['from'] or ''} to {r['to'] or 'none'}" for r in rows or ()}
    return {row for row in rows or () if key != "files" or row.startswith("/etc/")}


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
