# SPDX-License-Identifier: GPL-2.0-or-later
# It may be used under the GNU General Public License v3.0+ too, as Ansible itself.
"""The table of a fleet, one line for each host."""

from __future__ import annotations

from typing import Any, Callable

DOCUMENTATION = r"""
name: fleet_table
short_description: Make a table of the state of machines, one line for each host
version_added: 0.1.0
description:
  - Takes the results of M(fs_rollback.snapshots.fs_rollback_info) for each host, and returns the
    lines of a table with host, running root, newest snapshot, health and days since the last
    update.
  - A host that could not be asked also has a line, which says why.
options:
  _input:
    description: The registered results, by host.
    type: dict
    required: true
author:
  - The fs-rollback authors (@fs-rollback)
"""

EXAMPLES = r"""
- name: Show the table
  ansible.builtin.debug:
    msg: "{{ machines | fs_rollback.snapshots.fleet_table }}"
"""

RETURN = r"""
_value:
  description: The lines; the first one has the column titles.
  type: list
  elements: str
"""

_TITLES = ("HOST", "RUNNING ROOT", "NEWEST SNAPSHOT", "HEALTH", "DAYS")


def fleet_table(found: dict[str, Any]) -> list[str]:
    """Return the lines of the table; the last column, why, is not cut.

    No text of a host adds a line or steers a terminal.
    """
    hosts = sorted(found)
    rows = [_TITLES, *(_row(host, found[host]) for host in hosts)]
    whys = ["WHY", *(_why(found[host]) for host in hosts)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_TITLES))]
    lines = []
    for row, why in zip(rows, whys):
        cells = [cell.ljust(width) for cell, width in zip(row[:-1], widths)]
        line = "  ".join([*cells, row[-1].rjust(widths[-1]), why]).rstrip()
        lines.append("".join(c if c.isprintable() else " " for c in line))
    return lines


def _row(host: str, told: dict[str, Any]) -> tuple[str, ...]:
    if told.get("unreachable"):
        return host, "-", "-", "unreachable", "-"
    if told.get("failed") or "summary" not in told:
        return host, "-", "-", "unknown", "-"
    summary = told["summary"]
    copy_of = summary["copy_of"]
    running = summary["running"] or "-"
    days = summary["days_since_update"]
    return (
        host,
        f"{running} ({copy_of})" if copy_of else running,
        summary["newest"] or "-",
        summary["health"],
        "-" if days is None else str(days),
    )


def _why(told: dict[str, Any]) -> str:
    """Return the first problem of a host in one line, "" if there is none."""
    if "summary" not in told:
        return " ".join(str(told.get("msg", "")).split())
    summary = told["summary"]
    if summary["health"] in ("fell_back", "in_snapshot") and summary["reason"]:
        since = f"after '{summary['transaction']}': " if summary["transaction"] else ""
        return f"{since}{summary['reason']}"
    links = sorted(summary["links"], key=lambda link: link["grade"] != "broken")
    broken = [f"{link['name']}: {link['text']}" for link in links]
    is_broken = summary["health"] == "broken"
    found = [*broken, *summary["attention"]] if is_broken else [*summary["attention"], *broken]
    return found[0] if found else ""


class FilterModule:
    """The class that Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"fleet_table": fleet_table}
