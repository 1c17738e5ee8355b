# SPDX-License-Identifier: GPL-2.0-or-later
"""What a rollback changes for people, gathered before the question, also as JSON."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterable
from contextlib import ExitStack
from datetime import datetime, timezone
from functools import partial
from typing import Any, Callable, NamedTuple, Optional, TypeVar

from ...core.comparison.files import FileChange
from ...core.packages.advisories import Advisory
from ...core.progress import Progress
from ...core.snapshots.record import PackageChange, format_time, package_dict
from ...errors import Error
from ...system.comparison.roots import Comparison, compared
from ...system.machine.host import Host
from ...system.rollback import consequences, reverts
from ...system.rollback.consequences import Home
from ...system.rollback.propose import Proposal
from ...system.rollback.reverts import Data, LostFile
from .patience import CutShortError, limited

Found = TypeVar("Found")
_FEW = 3
_MUCH_BYTES = 1 << 20


class Facts(NamedTuple):
    """What reverts, None where it is not known, and what stays.

    `edits` are those of the `files` that somebody changed in /etc, and of packages in /usr; `data`
    are the others by where they lie. `missing` says what is not known, and why.
    """

    packages: Optional[tuple[PackageChange, ...]]
    advisories: Optional[list[Advisory]]
    files: Optional[list[FileChange]]
    edits: Optional[list[FileChange]]
    data: Optional[list[Data]]
    home: Home
    kept: tuple[str, ...]
    carried: tuple[str, ...]
    mounted: tuple[str, ...]
    missing: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Return what --json says."""
        return {
            "packages": _rows(self.packages, package_dict),
            "advisories": _rows(self.advisories, advisory_line),
            "security": _rows(self.advisories, Advisory._asdict),
            "files": _rows(self.files, lambda row: row.path),
            "edits": _rows(self.edits, lambda row: {"path": row.path, "change": row.action}),
            "data": _rows(self.data, _data_dict),
            "home": self.home._asdict(),
            "kept": list(self.kept),
            "carried": list(self.carried),
            "mounted": list(self.mounted),
            "missing": list(self.missing),
        }

    def differences(self, shown: Facts) -> list[str]:
        """Return what differs from what was `shown`, as far as it matters."""
        sides = [
            {
                "packages": {f"{p.name} {p.old or p.new}" for p in facts.packages or ()},
                "advisories": {advisory.id for advisory in facts.advisories or ()},
                "your edits": {row.path for row in facts.edits or ()},
                # What runs writes a little all the time.
                "data in": {one.path for one in facts.data or () if one.size >= _MUCH_BYTES},
                "/home": {facts.home.why},
            }
            for facts in (self, shown)
        ]
        found = []
        for what, now in sides[0].items():
            changed = sorted(now ^ sides[1][what])
            if changed:
                more = f" and {len(changed) - _FEW} more" if len(changed) > _FEW else ""
                found.append(f"{what} {', '.join(changed[:_FEW])}{more}")
        return found


def advisory_line(advisory: Advisory) -> str:
    """Return an advisory in a line: its ID, its severity, its packages."""
    return " ".join(filter(None, (advisory.id, advisory.severity, *advisory.packages)))


def _rows(found: Optional[Iterable[Found]], turn: Callable[[Found], Any]) -> Optional[list[Any]]:
    return None if found is None else [turn(one) for one in found]


def _data_dict(one: Data) -> dict[str, Any]:
    written = None
    if one.written_s is not None:
        written = format_time(datetime.fromtimestamp(int(one.written_s), timezone.utc))
    return {
        "path": one.path,
        "owner": one.owner or None,
        "files": one.files,
        "bytes": one.size,
        "written": written,
        "option": one.option or None,
    }


def gather(args: Namespace, host: Host, proposal: Proposal, before: Optional[Facts]) -> Facts:
    """Return what a rollback changes. What cannot be compared is in `missing`; nothing is raised.

    `before` are the facts of the first question, if this is not it: a comparison that took too long
    then is not repeated.
    """
    missing: list[str] = []
    left_out = before.missing if before is not None else ()
    may_skip = not (args.yes or args.json or args.dry_run)
    ask = partial(_known, missing, left_out, may_skip=may_skip)
    situation, points = proposal.situation, proposal.mounted
    packages = advisories = lost = files = edits = data = None
    target = proposal.target.subvolume
    assert target is not None, "a proposal has a target"
    with ExitStack() as stack:
        opened = compared(host, target, host.root_subvolume)
        found = ask("packages and files", lambda _: stack.enter_context(opened))
        if found is not None:
            packages = ask("packages", lambda _: reverts.packages(found))
            lost = ask("files", partial(_lost_files, host, found, proposal))
        if found is not None and lost is not None:
            changed = lost
            edits = ask("edits by hand", lambda _: reverts.edits(host, found, proposal, changed))
            data = ask("data of services", lambda _: reverts.data(found, changed))
            files = list(dict.fromkeys([*(file.change for file in changed), *(edits or ())]))
        if before is not None and packages == before.packages:
            advisories = before.advisories  # dnf may wait for one that waits for this command
        elif found is not None and packages:  # last: dnf takes its time, and was started first
            sides = ask("security advisories", lambda _: found.advisories)
            advisories = sides[0] if sides is not None else None
    if packages == () and host.is_running:
        advisories = []
    return Facts(
        packages,
        advisories,
        files,
        edits,
        data,
        consequences.home(host, situation, proposal.carried, points),
        situation.keep,
        tuple("/" + path for path in proposal.carried),
        points,
        tuple(missing),
    )


def _lost_files(
    host: Host, found: Comparison, proposal: Proposal, tell: Progress
) -> list[LostFile]:
    found.progress = tell
    return reverts.lost_files(host, found, proposal)


def _known(
    missing: list[str],
    left_out: Iterable[str],
    what: str,
    ask: Callable[[Progress], Optional[Found]],
    *,
    may_skip: bool,
) -> Optional[Found]:
    """Return the answer, None where it could not be had: then `missing` gets why.

    What was `left_out` before is so again.
    """
    why_not = f"{what} could not be compared: "
    again = [line for line in left_out if line.startswith(why_not)]
    missing.extend(again)
    if again:
        return None
    try:
        with limited(f"comparing {what}", may_skip=may_skip) as tell:
            return ask(tell)
    except (Error, OSError, CutShortError) as error:  # said as unknown
        missing.append(f"{why_not}{error}")
        return None
