# SPDX-License-Identifier: GPL-2.0-or-later
"""Which security advisories lie between two sets of packages, from what dnf has listed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from .changes import Item
from .versions import evr_compare

# The words of Fedora and Red Hat, the worst first; what else there is comes last.
_SEVERITIES = ("Critical", "Important", "Moderate", "Low")


class Advisory(NamedTuple):
    """A security advisory; `severity` is "" where it has none, `packages` are NEVRAs."""

    id: str
    severity: str
    cves: tuple[str, ...]
    packages: tuple[str, ...]


class _Row(NamedTuple):
    word: str
    severity: str
    nevra: str
    item: Item


def between(
    old: Iterable[Item], new: Iterable[Item], advisories: str, cves: str
) -> tuple[list[Advisory], list[Advisory]]:
    """Return the advisories fixed in `new` and not in `old`, and the reverse, the worst first.

    Of a package with several versions the newest counts. `advisories` and `cves` are the outputs of
    "dnf updateinfo list", the second with --with-cve.
    """
    rows = _rows(advisories)
    wanted = {row.nevra for row in rows}
    of_nevra: dict[str, list[str]] = {}
    for row in _rows(cves):
        if row.nevra in wanted:
            of_nevra.setdefault(row.nevra, []).append(row.word)
    older, newer = _newest(old), _newest(new)
    return (
        _heeded(rows, of_nevra, older, newer),
        _heeded(rows, of_nevra, newer, older),
    )


def _rows(text: str) -> list[_Row]:
    """Read what dnf 4 prints ("[i] ID SEVERITY/Sec. NEVRA"), or 5 ("ID TYPE SEVERITY NEVRA")."""
    found = []
    for line in text.splitlines():
        words = line.split()
        words = words[1:] if words[:1] == ["i"] else words
        place, item = next(_packages(words[:4]), (0, None))
        if item is not None and place >= 2:
            severity = words[place - 1].partition("/")[0]
            known = severity in _SEVERITIES
            found.append(_Row(words[0], severity if known else "", words[place], item))
    return found


def _packages(words: list[str]) -> Iterator[tuple[int, Item]]:
    for place, word in enumerate(words):
        name, _, version = word.rpartition("-")[0].rpartition("-")
        release, _, arch = word.rpartition("-")[2].rpartition(".")
        # An advisory's own name has dashes too, and no architecture behind its last dot.
        if place and name and version and release and arch:
            yield place, Item("", name, arch, f"{version}-{release}")


def _newest(items: Iterable[Item]) -> dict[tuple[str, str], str]:
    found: dict[tuple[str, str], str] = {}
    for item in items:
        key = item.name, item.arch
        if key not in found or evr_compare(found[key], item.evr) < 0:
            found[key] = item.evr
    return found


def _heeded(
    rows: Iterable[_Row],
    cves: dict[str, list[str]],
    older: dict[tuple[str, str], str],
    newer: dict[tuple[str, str], str],
) -> list[Advisory]:
    """Return what became true on the way from the older versions to the newer ones."""
    found: dict[str, Advisory] = {}
    for row in rows:
        key = row.item.name, row.item.arch
        if key not in older or key not in newer:
            continue
        if evr_compare(older[key], row.item.evr) < 0 <= evr_compare(newer[key], row.item.evr):
            known = found.get(row.word, Advisory(row.word, row.severity, (), ()))
            found[row.word] = known._replace(
                cves=tuple(dict.fromkeys((*known.cves, *cves.get(row.nevra, ())))),
                packages=tuple(dict.fromkeys((*known.packages, row.nevra))),
            )
    return sorted(found.values(), key=_badness)


def _badness(advisory: Advisory) -> tuple[int, str]:
    known = advisory.severity in _SEVERITIES
    return (_SEVERITIES.index(advisory.severity) if known else len(_SEVERITIES), advisory.id)
