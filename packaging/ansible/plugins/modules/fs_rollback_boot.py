#!/usr/bin/python
# SPDX-License-Identifier: GPL-2.0-or-later
# It may be used under the GNU General Public License v3.0+ too, as Ansible itself.
"""Tells what a machine has booted; the action plugin of the same name asks until that is known."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fs_rollback_boot
short_description: Wait for the result of a boot
version_added: 0.1.0
description:
  - After a reboot, waits until the machine knows whether its boot was healthy, and tells what it
    has booted. The result of a boot that is not guarded is known at once.
  - A machine whose guarded boot is not healthy reboots into a snapshot. With
    C(guard_then = rollback) it then checks the snapshot, makes it the root, and reboots a second
    time. The machine can be reached for a while between these reboots; this module waits until all
    of that has finished.
  - If the machine cannot be reached meanwhile, the module tries again.
  - Changes nothing.
options:
  known_failure:
    description:
      - The C(failure.time) of C(guard status) before the reboot. A different time belongs to this
        boot.
    type: str
  timeout:
    description:
      - How many seconds to wait. The machine decides about a guarded boot at most 15 minutes after
        its start, and likewise about the snapshot after it.
    type: int
    default: 2400
  delay:
    description: How many seconds to wait between attempts.
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

- name: Wait until the result of the boot is known
  fs_rollback.snapshots.fs_rollback_boot:
  become: true
  register: boot
  failed_when: boot.boot != 'healthy'
"""

RETURN = r"""
boot:
  description:
    - V(healthy), the machine runs its own root; if the boot was guarded, it was healthy.
    - V(rolled_back), the boot was not healthy, and the machine has rolled itself back to the
      snapshot.
    - V(in_snapshot), the boot was not healthy, and the machine stays in a trial of the snapshot.
    - V(other_root), the machine runs another root.
    - V(undecided), the result was not known before the timeout.
  type: str
  returned: success
snapshot:
  description: The name of the snapshot that the machine fell back to, if the boot was not healthy.
  type: str
  returned: success
transaction:
  description: The transaction before that boot.
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
    """Whether the machine has yet to decide about the boot, or to act on that."""
    systemctl = module.get_bin_path("systemctl")
    if systemctl is None:
        return False
    command = [systemctl, "show", "--property=ActiveState", "--value", _UNIT]
    return module.run_command(command)[1].strip() in _AT_WORK


def main() -> None:
    """Run the module: read the state once."""
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
