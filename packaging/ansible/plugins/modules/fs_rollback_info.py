#!/usr/bin/python
# SPDX-License-Identifier: GPL-2.0-or-later
# It may be used under the GNU General Public License v3.0+ too, as Ansible itself.
"""Returns the state of a machine with fs-rollback."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fs_rollback_info
short_description: Read the state of a machine with fs-rollback
version_added: 0.1.0
description:
  - Reads what C(fs-rollback) reports about a machine, its snapshots, its next boot and its guard.
  - Changes nothing.
  - It does not fail on a machine that cannot have snapshots, for instance because its root is not
    btrfs. RV(supported) is then false, and RV(reason) says why.
options:
  gather:
    description:
      - What to return.
      - V(summary) is the state of the machine in a few words. It runs C(status), C(check), C(list)
        and C(guard status), but returns only a short summary and the problems. Use it for a large
        fleet.
      - V(status), V(check), V(list), V(guard) and V(diff) are the answers of these commands.
    type: list
    elements: str
    choices: [summary, status, check, list, guard, diff]
    default: [summary]
  packages:
    description:
      - Whether V(list) includes the packages of each transaction, which are most of its size.
    type: bool
    default: false
  snapshot:
    description:
      - For V(diff), the older side. An ID, a name, a unique beginning of a name, or V(latest).
    type: str
  other:
    description:
      - For V(diff), the newer side. The default is the running system.
    type: str
  paths:
    description:
      - For V(diff), only files at or below these absolute paths, and no packages.
    type: list
    elements: path
    default: []
attributes:
  check_mode:
    description: It changes nothing, so check mode is the same.
    support: full
  diff_mode:
    description: There is nothing that differs before and after.
    support: none
seealso:
  - module: fs_rollback.snapshots.fs_rollback
  - module: fs_rollback.snapshots.fs_rollback_boot
notes:
  - The keys of the answers are those of C(man fs-rollback-json).
  - It must be run as root.
author:
  - The fs-rollback authors (@fs-rollback)
"""

EXAMPLES = r"""
- name: Read the state of the machine
  fs_rollback.snapshots.fs_rollback_info:
  become: true
  register: machine

- name: Stop if a rollback would not work
  ansible.builtin.assert:
    that: machine.supported and machine.summary.health == 'ok'
    fail_msg: "{{ machine.reason or machine.summary.attention }}"

- name: Read what has changed in /etc since the newest snapshot
  fs_rollback.snapshots.fs_rollback_info:
    gather: [diff]
    snapshot: latest
    paths: [/etc]
  become: true
"""

RETURN = r"""
supported:
  description: Whether the root of this machine can have snapshots.
  type: bool
  returned: always
reason:
  description: Why it cannot; empty if it can.
  type: str
  returned: always
  sample: / is ext4, not btrfs
summary:
  description: The state of the machine.
  type: dict
  returned: if O(gather) has V(summary)
  contains:
    running:
      description: The path of the running root.
      type: str
    copy_of:
      description: The name of the snapshot that this root is a copy of, null if of none.
      type: str
    newest:
      description: The name of the newest snapshot.
      type: str
    health:
      description:
        - V(ok); V(attention), something needs attention; V(waiting), a rollback is waiting for a
          reboot; V(fell_back), a guarded boot failed and nobody has acknowledged it;
          V(in_snapshot), the machine runs a trial of a snapshot; V(broken), the next boot would
          fail; V(unsupported).
      type: str
    attention:
      description: What needs attention, one sentence each.
      type: list
      elements: str
    links:
      description:
        - The findings of C(check) that are not ok, with C(name), C(grade), C(text), C(advice).
      type: list
      elements: dict
    transaction:
      description: The transaction before the last guarded boot that failed.
      type: str
    reason:
      description: Why it failed.
      type: str
    log:
      description: The last lines of its journal.
      type: list
      elements: str
    days_since_update:
      description:
        - The age of the last transaction of the running root in days, null if none is known.
      type: int
status:
  description: The answer of C(fs-rollback status).
  type: dict
  returned: if O(gather) has V(status)
check:
  description: The answer of C(fs-rollback check).
  type: dict
  returned: if O(gather) has V(check)
snapshots:
  description: The snapshots as C(fs-rollback list) returns them, the newest last.
  type: list
  elements: dict
  returned: if O(gather) has V(list)
guard:
  description: The answer of C(fs-rollback guard status), null for a version that has no C(guard).
  type: dict
  returned: if O(gather) has V(guard)
diff:
  description: What differs, with C(sides), C(packages), C(advisories), C(files) and C(end).
  type: dict
  returned: if O(gather) has V(diff)
outcome:
  description:
    - If it failed, what that was; V(not_installed), V(usage), V(refused), V(failed) or
      V(unreadable).
  type: str
  returned: failure
hint:
  description: If it failed, what to do about it.
  type: str
  returned: failure
exit_code:
  description: If the command failed, its exit code.
  type: int
  returned: failure
"""

from typing import Any, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.fs_rollback.snapshots.plugins.module_utils import summary
from ansible_collections.fs_rollback.snapshots.plugins.module_utils.command import (
    Command,
)

_REFUSED = 3


def _guard(command: Command, status: dict[str, Any]) -> Optional[dict[str, Any]]:
    return command.read("guard", "status") if "guard" in status else None


def _rows(command: Command) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = command.read("list")["snapshots"]
    return rows


def _without_packages(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row with the number of packages in the place of all of them."""
    if not row["transaction"]:
        return row
    found = {**row["transaction"], "package_count": len(row["transaction"]["packages"])}
    del found["packages"]
    return {**row, "transaction": found}


def _diff(command: Command) -> dict[str, Any]:
    params = command.module.params
    paths = [word for path in params["paths"] for word in ("--path", path)]
    sides = [side for side in (params["snapshot"], params["other"]) if side is not None]
    return command.read("diff", *paths, *sides)


def gather(command: Command, wanted: list[str]) -> dict[str, Any]:
    """Return what was asked for."""
    answer = command.run("status")
    if answer.data is None:
        if answer.code != _REFUSED:
            command.fail(answer)
        reason = f"{answer.sentence}. {answer.hint}".rstrip(". ")
        found: dict[str, Any] = {"supported": False, "reason": reason}
        return {**found, "summary": summary.unsupported(reason)} if "summary" in wanted else found
    status = answer.data
    found = {"supported": True, "reason": ""}
    for_summary = "summary" in wanted
    check = command.read("check") if for_summary or "check" in wanted else {}
    rows = _rows(command) if for_summary or "list" in wanted else []
    guard = _guard(command, status) if for_summary or "guard" in wanted else None
    if for_summary:
        found["summary"] = summary.summarize(status, check, rows, guard)
    if "list" in wanted:
        has_packages = command.module.params["packages"]
        found["snapshots"] = rows if has_packages else [_without_packages(row) for row in rows]
    if "diff" in wanted:
        found["diff"] = _diff(command)
    others = {"status": status, "check": check, "guard": guard}
    return {**found, **{name: told for name, told in others.items() if name in wanted}}


def main() -> None:
    """Run the module."""
    choices = ["summary", "status", "check", "list", "guard", "diff"]
    module = AnsibleModule(
        argument_spec={
            "gather": {
                "type": "list",
                "elements": "str",
                "choices": choices,
                "default": ["summary"],
            },
            "packages": {"type": "bool", "default": False},
            "snapshot": {"type": "str"},
            "other": {"type": "str"},
            "paths": {"type": "list", "elements": "path", "default": []},
        },
        required_by={"other": ["snapshot"]},
        supports_check_mode=True,
    )
    wanted = module.params["gather"]
    if "diff" in wanted and module.params["snapshot"] is None:
        module.fail_json(msg="gather: diff needs a snapshot", outcome="usage")
    module.exit_json(changed=False, **gather(Command(module), wanted))


if __name__ == "__main__":
    main()
