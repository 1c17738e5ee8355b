# SPDX-License-Identifier: GPL-2.0-or-later
"""Gathers what `diff` shows about two roots, and why parts of it are unknown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, NamedTuple, Optional, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...core.comparison.files import FileChange
    from ...core.packages.advisories import Advisory
    from ...core.packages.header import Change
    from ...core.snapshots.record import PackageChange
    from ...system.comparison.owned import OwnedChange
    from ...system.comparison.roots import Comparison

Found = TypeVar("Found")


class Wanted(NamedTuple):
    """What to compare: only files within `places` if there are any, and which extras."""

    places: tuple[str, ...] = ()
    patch: bool = False
    changelog: bool = False


class Differences(NamedTuple):
    """What differs; None for what could not be compared: `problems` say why.

    Advisories are those that came into force, and those that apply again. `changelogs` and
    `patches` (unified diffs) are keyed by package name and by path.
    """

    packages: Optional[tuple[PackageChange, ...]]
    advisories: Optional[tuple[list[Advisory], list[Advisory]]]
    files: Optional[list[OwnedChange]]
    changelogs: dict[str, list[Change]]
    patches: dict[str, str]
    problems: tuple[str, ...]


def gather(comparison: Comparison, wanted: Wanted) -> Differences:
    """Compare what is wanted. What cannot be compared is in `problems`; nothing is raised."""
    from ...errors import Error
    from ..terminal import progress

    problems: list[str] = []

    def known(what: str, ask: Callable[[], Found]) -> Optional[Found]:
        try:
            return ask()
        except (Error, OSError) as error:  # said as unknown, and the exit code has it
            problems.append(f"cannot compare the {what}: {error}")
            return None

    # Asked for files, people want no packages.
    packages: Optional[tuple[PackageChange, ...]] = ()
    if not wanted.places:
        packages = known("packages", lambda: comparison.packages)
    with progress("comparing files", "files") as comparison.progress:
        files = known("files", lambda: _files(comparison, wanted.places, problems))
    changelogs: dict[str, list[Change]] = {}
    if wanted.changelog:
        for package in packages or ():
            entries = known("changelogs", lambda: comparison.changelog(package))  # noqa: B023
            changelogs[package.name] = entries or []
    patches: dict[str, str] = {}
    if wanted.patch:
        from . import patch

        shown = [row.change for row in files or () if wanted.places or _is_in_etc(row)]
        patches = known("texts", lambda: patch.patches(comparison.sides, shown)) or {}
    advisories = None
    if packages:  # last: dnf takes its time, and was started first
        advisories = known("security advisories", lambda: comparison.advisories)
    return Differences(packages, advisories, files, changelogs, patches, tuple(problems))


def _is_in_etc(row: OwnedChange) -> bool:
    return row.change.path.startswith("/etc/")


def _files(comparison: Comparison, places: Sequence[str], problems: list[str]) -> list[OwnedChange]:
    from ...core.formats.mountinfo import is_within_any
    from ...system.comparison.database import DatabaseError
    from ...system.comparison.owned import OwnedChange

    try:
        rows = comparison.owned_files
    except DatabaseError as error:  # the files are known, and this is said
        problems.append(f"cannot tell which packages the files belong to: {error}")
        rows = [OwnedChange(change, None, None) for change in comparison.files]
    gaps = {place: comparison.gap(place) for place in places}
    problems += [f"{place} is not compared: {gap}" for place, gap in gaps.items() if gap]
    wanted = {path for place in places for path in comparison.meant(place)}

    def is_wanted(change: FileChange) -> bool:
        source = change.source
        return is_within_any(change.path, wanted) or bool(source and is_within_any(source, wanted))

    return [row for row in rows if is_wanted(row.change)] if places else rows
