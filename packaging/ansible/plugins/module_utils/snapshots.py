# SPDX-License-Identifier: GPL-2.0-or-later
# It may be used under the GNU General Public License v3.0+ too, as Ansible itself.
"""Decides what to do, only from the answers of `list` and `status`. Runs nothing."""

from __future__ import annotations

from typing import Any, Optional

_IN_STORE = "/fs-snapshots/"

Row = dict[str, Any]


class NoSuchSnapshotError(ValueError):
    """No snapshot has this name, or more than one."""


def resolve(reference: str, rows: list[Row]) -> Optional[Row]:
    """Return the row of `list` that this names, None if there is none.

    It is an ID, a name, a unique beginning of a name, a path that dnf printed, or `latest`, as for
    the command itself. Raises NoSuchSnapshotError if several match.
    """
    present = [row for row in rows if "gone" not in row["marks"]]
    if reference == "latest":
        usual = [r for r in present if r["kind"] != "replaced" and "trial" not in r["marks"]]
        return usual[-1] if usual else None
    name = reference[len(_IN_STORE) :] if reference.startswith(_IN_STORE) else reference
    name = name.rstrip("/")
    found = [row for row in rows if row["name"] == name]
    found = found or [row for row in present if str(row["id"]) == reference]
    found = found or [row for row in rows if name and row["name"].startswith(name)]
    if len(found) > 1:
        names = ", ".join(row["name"] for row in found[:5])
        raise NoSuchSnapshotError(f"{reference!r} matches {len(found)} snapshots: {names}")
    return found[0] if found else None


def by_description(text: str, rows: list[Row]) -> Optional[Row]:
    """Return the newest manual snapshot with this description, None if there is none."""
    for row in reversed(rows):
        is_there = row["kind"] == "manual" and not {"gone", "trial"} & set(row["marks"])
        if is_there and row["description"] == text:
            return row
    return None


def waiting_target(status: dict[str, Any]) -> Optional[str]:
    """Return the name of the target of the rollback that is waiting for a reboot."""
    last = status["last_rollback"]
    if status["waiting"] != "reboot" or not last or not last["replaced_by"]:
        return None
    return str(last["replaced_by"]["name"])


def was_rolled_back(target: Row, status: dict[str, Any], rows: list[Row]) -> bool:
    """Whether a rollback to this snapshot made the running root, and nothing changed it since.

    The order of `list` counts, not the clock. Packages that changed without a snapshot count too.
    """
    last, copy_of = status["last_rollback"], status["copy_of"]
    if status["waiting"] != "nothing" or status["trial"] or not last or not copy_of:
        return False
    if copy_of["name"] != target["name"] or status["changed_without_snapshot"]:
        return False
    names = [row["name"] for row in rows]
    if last["replaced"] not in names:
        return False  # nobody can tell what came after it
    later = rows[names.index(last["replaced"]) + 1 :]
    return not any(row["transaction"] for row in later)


def was_undone(status: dict[str, Any], rows: list[Row]) -> bool:
    """Whether the running root is a copy of a root that a rollback had replaced."""
    copy_of = status["copy_of"]
    kinds = {row["name"]: row["kind"] for row in rows}
    return bool(copy_of) and kinds.get(copy_of["name"]) == "replaced"


def difference(reverts: dict[str, Any], target: str) -> dict[str, str]:
    """Return what a rollback reverts as a module's diff: the present state, and the new one."""
    before, after = [], []
    for package in reverts["packages"] or []:
        name = f"{package['name']}.{package['arch']}"
        before += [f"package {name} {package['from']}"] if package["from"] else []
        after += [f"package {name} {package['to']}"] if package["to"] else []
    for edit in reverts["edits"] or []:
        before.append(f"{edit['path']}, {edit['change']} by hand")
    for data in reverts["data"] or []:
        before.append(f"{data['path']}, {data['files']} files written since")
    for missing in reverts["missing"]:
        before.append(f"not compared: {missing}")
    return {
        "before_header": "the running root",
        "after_header": f"a copy of {target}",
        "before": "".join(f"{line}\n" for line in before),
        "after": "".join(f"{line}\n" for line in after),
    }


def shortened(answer: dict[str, Any]) -> dict[str, Any]:
    """Return the answer of `rollback` without its steps and file names.

    These are long, and a controller keeps the answer for each of its hosts.
    """
    found = {key: value for key, value in answer.items() if key not in ("version", "steps")}
    if "reverts" in found:
        files = found["reverts"]["files"]
        kept = {key: value for key, value in found["reverts"].items() if key != "files"}
        found["reverts"] = {**kept, "file_count": None if files is None else len(files)}
    return found
