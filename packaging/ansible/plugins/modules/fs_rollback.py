#!/usr/bin/python
# SPDX-License-Identifier: GPL-2.0-or-later
# It may be used under the GNU General Public License v3.0+ too, as Ansible itself.
"""Takes, pins and deletes snapshots, rolls a machine back, and guards its next boot."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fs_rollback
short_description: Take snapshots of a btrfs root, roll back to one, guard the next boot
version_added: 0.1.0
description:
  - Uses C(fs-rollback) to take, pin and delete snapshots, to roll back to one, to undo a rollback,
    and to guard the next boot.
  - It never reboots a machine. RV(reboot_required) tells whether a reboot is still needed.
  - Between a rollback and the reboot the machine refuses transactions of dnf.
options:
  state:
    description:
      - V(snapshot), a manual snapshot with this O(description) exists. The newest one is returned.
        If there is none, one is taken.
      - V(pinned) and V(unpinned), retention may not delete the snapshots, or may delete them.
      - V(deleted), the snapshots do not exist. A snapshot that is pinned or in use is refused.
      - V(rolled_back), the next boot uses a copy of the snapshot, or the running root is a copy of
        it and no transaction has changed that root since.
      - V(undone), no rollback is waiting for a reboot; one that waits is canceled. With
        O(to_replaced), if none was waiting, the next boot uses the root that was replaced last.
    type: str
    choices: [snapshot, pinned, unpinned, deleted, rolled_back, undone]
  guard:
    description:
      - V(on), the next boot is guarded. If it is not healthy, the boot after it uses the newest
        snapshot from before a transaction. A later transaction removes the guard while it runs, and
        then sets it again, with the snapshot from before that transaction.
      - V(off), the next boot is not guarded.
      - V(acknowledged), a person knows of the guarded boot that failed. Until then the machine
        refuses transactions without a terminal, such as those of Ansible.
    type: str
    choices: ["on", "off", acknowledged]
  snapshots:
    description:
      - The snapshots. Each is an ID, a name, a unique beginning of a name, a path as dnf prints it,
        or V(latest), which O(state=deleted) does not accept.
      - O(state=rolled_back) accepts one. If it is omitted, C(fs-rollback) chooses the newest
        snapshot from before a transaction.
    type: list
    elements: str
    default: []
    aliases: [snapshot]
  description:
    description: The description of the snapshot of O(state=snapshot).
    type: str
  keep:
    description:
      - Paths that a rollback leaves as they are now, in addition to those in the configuration of
        the machine.
    type: list
    elements: str
    default: []
  no_keep:
    description: Whether a rollback also reverts the paths that the configuration keeps.
    type: bool
    default: false
  to_replaced:
    description: Whether O(state=undone) may return to the replaced root if no rollback is waiting.
    type: bool
    default: false
attributes:
  check_mode:
    description: Nothing is changed. Rollbacks and deletions are planned with C(--dry-run).
    support: full
  diff_mode:
    description: Shows the packages, edited files and data that a rollback reverts.
    support: full
seealso:
  - module: fs_rollback.snapshots.fs_rollback_info
  - module: fs_rollback.snapshots.fs_rollback_boot
notes:
  - It must be run as root.
  - A rollback that is refused, or that failed and was undone, leaves the machine as it was. If
    RV(outcome) is V(needs_hands), somebody has to do on the machine what RV(hint) says.
author:
  - The fs-rollback authors (@fs-rollback)
"""

EXAMPLES = r"""
- name: Take a snapshot, once
  fs_rollback.snapshots.fs_rollback:
    state: snapshot
    description: all is well
  become: true

- name: Show what a rollback would revert
  fs_rollback.snapshots.fs_rollback:
    state: rolled_back
  become: true
  check_mode: true
  diff: true

- name: Roll back to before the last transaction
  fs_rollback.snapshots.fs_rollback:
    state: rolled_back
  become: true
  register: rollback

- name: Reboot into it
  ansible.builtin.reboot:
  become: true
  when: rollback.reboot_required

- name: Guard the next boot
  fs_rollback.snapshots.fs_rollback:
    guard: "on"
  become: true
"""

RETURN = r"""
snapshots:
  description: With O(state=snapshot), V(pinned), V(unpinned) and V(deleted), the snapshots.
  type: list
  elements: dict
  returned: success
rollback:
  description:
    - With O(state=rolled_back) and O(state=undone), the answer of C(fs-rollback rollback) or
      C(undo), without the steps and the file names. Empty if there was nothing to do.
  type: dict
  returned: success
target:
  description: The name of the snapshot that the machine is, or was, rolled back to.
  type: str
  returned: with O(state=rolled_back) and O(state=undone), if it is known
reboot_required:
  description: Whether the machine must be rebooted to complete it.
  type: bool
  returned: with O(state=rolled_back) and O(state=undone)
guard:
  description: The answer of C(fs-rollback guard status).
  type: dict
  returned: with O(guard)
outcome:
  description:
    - The state of the machine after a failure. V(failed), the machine is as before. V(refused),
      nothing was changed. V(usage), there is no such snapshot, or the configuration is invalid.
      V(needs_hands), somebody has to finish it on the machine. V(interrupted), it was undone.
      V(not_installed), V(unsupported) and V(unreadable).
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

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.fs_rollback.snapshots.plugins.module_utils import (
    snapshots as decide,
)
from ansible_collections.fs_rollback.snapshots.plugins.module_utils.command import (
    Command,
)

_REFUSED = 3

Result = dict[str, Any]


class Change:
    """The requested change to this machine; each state is a method that returns the result."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.params = module.params
        self.command = Command(module)
        answer = self.command.run("status")  # which changes nothing, and fails where all would
        if answer.data is None:
            more = {"outcome": "unsupported"} if answer.code == _REFUSED else {}
            self.command.fail(answer, **more)
        self.status: dict[str, Any] = answer.data

    def run(self) -> Result:
        """Make the change, or in check mode return what would change."""
        if self.params["guard"]:
            return self._guard(self.params["guard"])
        states = {
            "snapshot": self._snapshot,
            "pinned": self._pinned,
            "unpinned": self._pinned,
            "deleted": self._deleted,
            "rolled_back": self._rolled_back,
            "undone": self._undone,
        }
        return states[self.params["state"]]()

    def _rows(self) -> list[decide.Row]:
        rows: list[decide.Row] = self.command.read("list")["snapshots"]
        return rows

    def _found(self, rows: list[decide.Row], *, may_lack: bool = False) -> list[decide.Row]:
        """Return the rows of what was named, each once."""
        found: dict[str, decide.Row] = {}
        for reference in self.params["snapshots"]:
            try:
                row = decide.resolve(reference, rows)
            except decide.NoSuchSnapshotError as error:
                self.module.fail_json(msg=str(error), outcome="usage")
            if row is not None:
                found[row["name"]] = row
            elif not may_lack:
                self.module.fail_json(msg=f"no snapshot {reference!r}", outcome="usage")
        return list(found.values())

    def _snapshot(self) -> Result:
        there = decide.by_description(self.params["description"], self._rows())
        if there is not None:
            return {"changed": False, "snapshots": [_named(there)]}
        if self.module.check_mode:
            return {"changed": True, "snapshots": []}
        taken = self.command.change("create", f"--message={self.params['description']}")
        return {"changed": True, "snapshots": [taken["snapshot"]]}

    def _pinned(self) -> Result:
        wanted = self.params["state"] == "pinned"
        rows = self._found(self._rows())
        others = [row["name"] for row in rows if ("pinned" in row["marks"]) != wanted]
        if others and not self.module.check_mode:
            self.command.change("pin" if wanted else "unpin", *others)
        told = [{**_named(row), "pinned": wanted} for row in rows]
        return {"changed": bool(others), "snapshots": told}

    def _deleted(self) -> Result:
        if "latest" in self.params["snapshots"]:
            self.module.fail_json(
                msg="state: deleted does not accept 'latest', which names another snapshot after"
                " each deletion",
                outcome="usage",
            )
        names = [row["name"] for row in self._found(self._rows(), may_lack=True)]
        if not names:
            return {"changed": False, "snapshots": []}
        dry_run = ["--dry-run"] if self.module.check_mode else []
        answer = self.command.run("delete", *dry_run, *names)
        rows = answer.data["snapshots"] if answer.data else []
        changed = any(row["deleted"] for row in rows)
        if answer.code or answer.data is None:
            self.command.fail(answer, changed=changed, snapshots=rows)  # others may be gone
        return {"changed": changed or self.module.check_mode, "snapshots": rows}

    def _rolled_back(self) -> Result:
        rows = self._rows()
        found = self._found(rows)
        if len(self.params["snapshots"]) > 1:
            self.module.fail_json(
                msg="state: rolled_back accepts only one snapshot", outcome="usage"
            )
        waiting = decide.waiting_target(self.status)
        if waiting is not None and (not found or found[0]["name"] == waiting):
            return _nothing_to_do(waiting, reboot_required=True)
        if found and decide.was_rolled_back(found[0], self.status, rows):
            return _nothing_to_do(found[0]["name"], reboot_required=False)
        return self._go_back("rollback", *(row["name"] for row in found))

    def _undone(self) -> Result:
        to_replaced = self.params["to_replaced"]
        if self.status["waiting"] != "nothing":
            return self._go_back("undo")
        if not to_replaced or decide.was_undone(self.status, self._rows()):
            return _nothing_to_do(None, reboot_required=False)
        return self._go_back("undo", "--to-replaced")

    def _go_back(self, *words: str) -> Result:
        """Roll back or undo, or plan that, without a question."""
        kept = [f"--keep={path}" for path in self.params["keep"]]
        kept += ["--no-keep"] if self.params["no_keep"] else []
        how = "--dry-run" if self.module.check_mode else "--yes"
        answer = self.command.change(*words, how, *kept)
        result: Result = {
            "changed": True,
            "rollback": decide.shortened(answer),
            "target": answer["target"],
            "reboot_required": answer.get("next_step") == "reboot",
        }
        if "reverts" in answer:
            result["diff"] = decide.difference(answer["reverts"], answer["target"])
        return result

    def _guard(self, wanted: str) -> Result:
        if "guard" not in self.status:
            self.module.fail_json(
                msg="fs-rollback on this machine is too old to guard a boot: upgrade it",
                outcome="unsupported",
            )
        told = self.command.read("guard", "status")
        failure = told["failure"]
        is_so = {
            "on": told["armed"] and told["next_boot"] == "guarded",
            "off": not told["armed"],
            "acknowledged": failure is None or failure["acknowledged"],
        }[wanted]
        if is_so:
            return {"changed": False, "guard": told}
        if wanted == "on" and not told["possible"]:
            self.module.fail_json(
                msg=f"the next boot cannot be guarded: {told['reason']}", outcome="refused"
            )
        if not self.module.check_mode:
            action = "acknowledge" if wanted == "acknowledged" else wanted
            told = self.command.change("guard", action)
        return {"changed": True, "guard": told}


def _named(row: decide.Row) -> dict[str, Any]:
    return {key: row[key] for key in ("id", "name", "path", "uuid")}


def _nothing_to_do(target: Any, *, reboot_required: bool) -> Result:
    found = {"changed": False, "rollback": {}, "reboot_required": reboot_required}
    return {**found, "target": target} if target else found


def main() -> None:
    """Run the module."""
    states = ["snapshot", "pinned", "unpinned", "deleted", "rolled_back", "undone"]
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": states},
            "guard": {"type": "str", "choices": ["on", "off", "acknowledged"]},
            "snapshots": {
                "type": "list",
                "elements": "str",
                "default": [],
                "aliases": ["snapshot"],
            },
            "description": {"type": "str"},
            "keep": {"type": "list", "elements": "str", "default": []},
            "no_keep": {"type": "bool", "default": False},
            "to_replaced": {"type": "bool", "default": False},
        },
        mutually_exclusive=[("state", "guard")],
        required_one_of=[("state", "guard")],
        required_if=[
            ("state", "snapshot", ["description"]),
            ("state", "pinned", ["snapshots"]),
            ("state", "unpinned", ["snapshots"]),
            ("state", "deleted", ["snapshots"]),
        ],
        supports_check_mode=True,
    )
    module.exit_json(**Change(module).run())


if __name__ == "__main__":
    main()
