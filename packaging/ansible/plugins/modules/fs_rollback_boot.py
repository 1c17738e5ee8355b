#!/usr/bin/python
# SPDX-License-Identifier: GPL-2.0-or-later
# It may be used under the GNU General Public License v3.0+ too, as Ansible itself.
"""Tells where a machine has come up; the action plugin of the same name asks until it is sure."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fs_rollback_boot
short_description: Wait until it is known how a boot has ended
version_added: 0.1.0
description:
  - After a reboot, waits until the machine knows whether its boot was healthy, and tells where it
    has come up. A boot that is not guarded is known at once.
  - A guarded boot that is not healthy reboots into a snapshot. With C(guard_then = rollback) the
    machine then checks the snapshot, makes it the root, and reboots a second time by itself.
    Between these the machine can be reached, for a while; this waits for the end of all of it.
  - A machine that cannot be reached meanwhile is asked again.
  - Changes nothing.
options:
  known_failure:
    description:
      - The C(failure.time) of C(guard status) from before the reboot. Another one is of this boot.
    type: str
  timeout:
    description:
      - How many seconds to wait. A guarded boot is judged 15 minutes after its start at the latest,
        and so is the snapshot after it.
    type: int
    default: 2400
  delay:
    description: How many seconds to wait before the machine is asked again.
    type: int
    default: 10
attributes:
  check_mode:
    description: It changes nothing, so check mode is the same.
    support: full
  diff_mode:
    description: There is nothing that differs before and after.
    support: none
seealso:
  - module: ansible.builtin.reboot
  - module: fs_rollback.snapshots.fs_rollback
notes:
  - It must be run as root.
author:
  - The fs-rollback authors (@fs-rollback)
"""

EXAMPLES = r"""
- name: Guard the next boot
  fs_rollback.snapshots.fs_rollback:
    guard: "on"
  become: true

- name: Reboot
  ansible.builtin.reboot:
  become: true

- name: Wait until the machine has made up its mind
  fs_rollback.snapshots.fs_rollback_boot:
  become: true
  register: boot
  failed_when: boot.boot != 'healthy'
"""

RETURN = r"""
boot:
  description:
    - V(healthy), the machine runs its own root, and the boot was healthy if it was guarded.
    - V(rolled_back), it was not healthy, and the machine has made the snapshot its root by itself.
    - V(in_snapshot), it was not healthy, and the machine runs a trial of the snapshot and stays
      there.
    - V(other_root), the machine runs a root that is none of these.
    - V(undecided), the time was over before it was known.
  type: str
  returned: success
snapshot:
  description: The name of the snapshot that the guarded boot ended in, if it was not healthy.
  type: str
  returned: success
transaction:
  description: After which transaction that was.
  type: str
  returned: success
reason:
  description: Why the boot was not healthy.
  type: str
  returned: success
log:
  description: The last lines of the journal of that boot.
  type: list
  elements: str
  returned: success
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.fs_rollback.snapshots.plugins.module_utils import summary
from ansible_collections.fs_rollback.snapshots.plugins.module_utils.command import (
    Command,
)

# It notes what became of a guarded boot, and goes back for it.
_UNIT = "fs-rollback-guard.service"
_AT_WORK = ("activating", "reloading", "deactivating")


def _is_working(module: Any) -> bool:
    """Whether the machine is still about to find out, or to act, by itself."""
    systemctl = module.get_bin_path("systemctl")
    if systemctl is None:
        return False
    command = [systemctl, "show", "--property=ActiveState", "--value", _UNIT]
    return module.run_command(command)[1].strip() in _AT_WORK


def main() -> None:
    """Run the module: one look."""
    module = AnsibleModule(
        argument_spec={
            "known_failure": {"type": "str"},
            "timeout": {"type": "int", "default": 2400},
            "delay": {"type": "int", "default": 10},
        },
        supports_check_mode=True,
    )
    command = Command(module)
    is_working = _is_working(module)  # before it is asked what it has found
    status = command.read("status")
    guard = command.read("guard", "status") if "guard" in status else None
    known = module.params["known_failure"] or None
    boot = summary.boot_outcome(status, guard, known, is_working=is_working)
    failure = (guard["failure"] if guard else None) or {}
    is_new = boot != "healthy" and failure.get("time") != known
    failure = failure if is_new else {}
    module.exit_json(
        changed=False,
        boot=boot,
        snapshot=failure.get("snapshot"),
        transaction=failure.get("since"),
        reason=failure.get("reason"),
        log=failure.get("log", []),
    )


if __name__ == "__main__":
    main()
