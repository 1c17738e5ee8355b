# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether packages can change without a snapshot: through dnf, or through any other program."""

from __future__ import annotations

from collections.abc import Iterator

from ...core.boot import findings
from ...core.boot.findings import Finding, Grade
from ..machine import configuration, usable
from ..machine.host import Host
from ..packages import coverage, rpm_changes
from ..packages.coverage import Coverage
from ..packages.dnf4_state import State
from ..store.store import Store

_PLUGIN = {
    State.OFF: "plugin.off",
    State.BROKEN: "plugin.dnf-fails",
    State.UNKNOWN: "plugin.unknown",
}
_ROADS = {
    Coverage.COVERED: "packages.covered",
    Coverage.NOT_COVERED: "packages.not-covered",
    Coverage.NOT_INSTALLED: "packages.not-installed",
    Coverage.UNKNOWN: "packages.unknown",
}


def look(host: Host, store: Store | None) -> Iterator[Finding]:
    """Yield findings on dnf, on other package managers, and on changes without a snapshot."""
    yield _plugin(host)
    yield from _roads(host, store)


def _plugin(host: Host) -> Finding:
    if (refusal := usable.unsupported(host)) is not None:
        text = f"dnf transactions take no snapshot: {host.unsupported()}"
        return findings.warning("plugin.unsupported", "", text, refusal.hint)
    found = coverage.of_dnf(host)
    if found.state is not State.ON:
        return findings.warning(_PLUGIN[found.state], "", found.problem, found.advice)
    config, broken = configuration.usable(host.root)
    if broken is not None:
        stops = config.on_failure == "abort"
        then = "dnf stops before each transaction" if stops else "transactions take no snapshot"
        text = f"{then}: {broken}"
        return findings.warning("plugin.configuration", "", text, broken.hint)
    return findings.ok("plugin.ok", "", "each dnf transaction takes a snapshot")


def _roads(host: Host, store: Store | None) -> Iterator[Finding]:
    """Tell of each other road to rpm, and what came along without a snapshot."""
    for road in coverage.roads(host):
        if road.name == "dnf":  # that is the link "plugin"
            continue
        told = f"{road.state.value}: {road.why}" if road.why else road.state.value
        grade = Grade.WARNING if road.advice else Grade.OK
        yield Finding(_ROADS[road.state], road.name, grade, told, road.advice)
    changed = rpm_changes.without_snapshot(host, store) if store is not None else None
    if changed is not None:
        text = rpm_changes.sentence(changed)
        yield findings.warning(
            "packages.changed", "rpm", text, "Take one now: 'fs-rollback create'."
        )
