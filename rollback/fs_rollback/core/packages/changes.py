# SPDX-License-Identifier: GPL-2.0-or-later
"""What happens to packages in a transaction, and between two sets of installed packages."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Container, Iterable
from operator import attrgetter, itemgetter
from typing import Callable, NamedTuple, Optional

from ..snapshots.record import PackageChange

# One word for each change, in the order in which a summary names them.
_WORDS = {
    "upgrade": "upgraded",
    "downgrade": "downgraded",
    "install": "new",
    "remove": "removed",
    "revert": "reverted",
    "restore": "restored",
    "obsolete": "replaced",
    "reinstall": "reinstalled",
    "reason": "reason changed",
}
# What goes away in the same transaction, for each that comes.
_OUTGOING = {"upgraded": "upgrade", "downgraded": "downgrade", "reinstalled": "reinstall"}
_NAME_AND_ARCH, _NAME = attrgetter("name", "arch"), attrgetter("name")


class Item(NamedTuple):
    """One item of a transaction as the package manager has it: what it does to one package."""

    action: str
    name: str
    arch: str
    evr: str


def changes(items: Iterable[Item]) -> tuple[PackageChange, ...]:
    """Pair incoming with outgoing items: one change for each package, with both versions.

    Actions are libdnf's TransactionItemAction names in lower case, without the prefix
    (libdnf/transaction/Types.hpp).
    """
    outgoing: defaultdict[tuple[str, str], list[Item]] = defaultdict(list)
    rest: list[Item] = []
    for item in items:
        if item.action in _OUTGOING:
            outgoing[_OUTGOING[item.action], item.name].append(item)
        else:
            rest.append(item)
    found: list[PackageChange] = []
    for item in rest:
        old = _take(outgoing.get((item.action, item.name)), item.arch)
        found.append(_change(item, old))
    leftover = (item for group in outgoing.values() for item in group)
    found += [PackageChange("remove", i.name, i.arch, i.evr, None) for i in leftover]
    return tuple(sorted(found, key=lambda change: (change.name, change.arch, change.new or "")))


def _take(candidates: Optional[list[Item]], arch: str) -> Optional[Item]:
    if not candidates:
        return None
    same = [item for item in candidates if item.arch == arch]
    chosen = (same or candidates)[0]
    candidates.remove(chosen)
    return chosen


def _change(item: Item, old: Optional[Item]) -> PackageChange:
    if item.action in ("remove", "obsoleted"):
        action = "obsolete" if item.action == "obsoleted" else "remove"
        return PackageChange(action, item.name, item.arch, item.evr, None)
    if item.action == "reason_change":
        return PackageChange("reason", item.name, item.arch, item.evr, item.evr)
    # "obsolete" is a package that comes and pushes another one out (which is "obsoleted").
    action = "install" if item.action == "obsolete" else item.action
    return PackageChange(action, item.name, item.arch, old.evr if old else None, item.evr)


def summary(packages: Iterable[PackageChange]) -> str:
    """Return the size of a transaction in words: "12 upgraded, 1 new"."""
    counts = Counter(map(itemgetter(0), packages))  # by place: `list` counts for thousands
    words = [f"{counts.pop(action)} {word}" for action, word in _WORDS.items() if action in counts]
    words += [f"{count} {action}" for action, count in sorted(counts.items())]
    return ", ".join(words)


def between(now: Iterable[Item], then: Iterable[Item]) -> tuple[PackageChange, ...]:
    """Return what a rollback changes: from the packages installed `now` to those of `then`.

    A package with one version on either side is reverted; one with several (kernels) is removed
    and restored version by version.
    """
    words = dict.fromkeys(("upgrade", "downgrade", "reinstall"), "revert")
    words["install"] = "restore"
    found = differences(now, then)
    return tuple(
        change._replace(action=words.get(change.action, change.action)) for change in found
    )


def differences(old: Iterable[Item], new: Iterable[Item]) -> tuple[PackageChange, ...]:
    """Return the changes between two sets of installed packages, as a transaction has them.

    A package with one version on either side is an upgrade or a downgrade, as rpm compares; one
    with several (kernels) is removed and installed version by version. A package that is replaced
    by one of the same name and another architecture is one change, too.
    """
    first, second = set(old), set(new)
    goes, comes = first - second, second - first
    several = {
        key
        for side in (first, second)
        for key, count in Counter(map(_NAME_AND_ARCH, side)).items()
        if count > 1
    }
    found: list[PackageChange] = []
    for of in (_NAME_AND_ARCH, _NAME):
        went, came = _by(of, goes, several), _by(of, comes, several)
        for key in went.keys() & came.keys():
            if len(went[key]) == 1 and len(came[key]) == 1:
                (gone,), (come,) = went[key], came[key]
                goes.remove(gone)
                comes.remove(come)
                found.append(_replaced(gone, come))
    found += [PackageChange("remove", i.name, i.arch, i.evr, None) for i in goes]
    found += [PackageChange("install", i.name, i.arch, None, i.evr) for i in comes]
    return tuple(sorted(found, key=_place))


def _by(
    of: Callable[[Item], object], items: set[Item], but: Container[object]
) -> dict[object, set[Item]]:
    """Return items by a key, but those of several versions."""
    found: defaultdict[object, set[Item]] = defaultdict(set)
    for item in items:
        if _NAME_AND_ARCH(item) not in but:
            found[of(item)].add(item)
    return found


def _replaced(old: Item, new: Item) -> PackageChange:
    from .versions import evr_compare

    order, moved = evr_compare(old.evr, new.evr), old.arch != new.arch
    action = "upgrade" if order <= 0 else "downgrade"
    if moved and not order:
        action = "reinstall"
    old_arch = old.arch if moved else None
    return PackageChange(action, new.name, new.arch, old.evr, new.evr, old_arch)


def _place(change: PackageChange) -> tuple[str, str, bool, str]:
    """By name and architecture; what goes is before what comes."""
    return change.name, change.arch, change.old is None, change.old or change.new or ""
