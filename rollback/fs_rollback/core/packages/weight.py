# SPDX-License-Identifier: GPL-2.0-or-later
"""Which changes of packages a person wants to read first: those that change most."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..snapshots.record import PackageChange
from .important import GROUPS, group

_IS_NEW_OR_GONE = 1.5  # like a version between a new first number and a new second one
_RELEASE = 9.0  # behind every number of a version


def heaviest_first(changes: Iterable[PackageChange]) -> list[PackageChange]:
    """Return changes in the order in which a person wants to read them.

    First the packages without which a machine does not start, in the order of important.py, one of
    each group and version. Then the others by weight: another epoch, then another first number of
    the version, and so on; those that differ only in the release come last. The rest of the groups
    ends the list.
    """
    ordered = sorted(changes, key=lambda change: (_weight(change), change.name, change.arch))
    leaders: dict[object, PackageChange] = {}
    followers: list[PackageChange] = []
    # The shortest name is that of what people call the package: kernel, not kernel-modules.
    for change in sorted(ordered, key=lambda change: len(change.name)):
        of = group(change.name)
        if of and leaders.setdefault((of, change.old, change.new), change) is not change:
            followers.append(change)
    of_groups = {*leaders.values(), *followers}
    others = [change for change in ordered if change not in of_groups]
    first = sorted(leaders.values(), key=lambda change: GROUPS.index(group(change.name)))
    return [*first, *others, *followers]


def _weight(change: PackageChange) -> float:
    if change.old is None or change.new is None:
        return _IS_NEW_OR_GONE
    (epoch, version), (other_epoch, other_version) = _parts(change.old), _parts(change.new)
    if epoch != other_epoch:
        return 0.0
    for place, (one, other) in enumerate(zip(version, other_version), start=1):
        if one != other:
            return float(min(place, 8))
    return _RELEASE if version == other_version else min(len(version), len(other_version)) + 1.0


def _parts(evr: str) -> tuple[str, list[str]]:
    """Return the epoch and the numbers and words of the version."""
    epoch, colon, rest = evr.rpartition(":")
    version = rest.rpartition("-")[0] or rest
    return (epoch if colon else "0"), re.findall(r"\d+|[A-Za-z]+|[~^]", version)
