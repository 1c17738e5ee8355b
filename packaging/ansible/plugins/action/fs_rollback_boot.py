# SPDX-License-Identifier: GPL-2.0-or-later
# It may be used under the GNU General Public License v3.0+ too, as Ansible itself.
"""Asks a machine for the result of its boot until that is known; it may reboot meanwhile."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any, Optional

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

_MODULE = "fs_rollback.snapshots.fs_rollback_boot"
_TIMEOUT_S, _DELAY_S = 2400, 10
_display = Display()


class ActionModule(ActionBase):
    """Runs the module until its answer is not `undecided`, or until the timeout."""

    _requires_connection = True

    def run(self, tmp: Any = None, task_vars: Optional[dict[str, Any]] = None) -> dict[str, Any]:
        """Return the last answer."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        del tmp
        arguments = self._task.args
        end = time.monotonic() + int(arguments.get("timeout", _TIMEOUT_S))
        while True:
            found = self._look(task_vars)
            # A boot that has just begun may not have the command's filesystems yet.
            is_known = not found.get("failed") and found.get("boot") != "undecided"
            if is_known or time.monotonic() >= end or self._is_final(found):
                return {**result, **found}
            _display.vvv(f"fs_rollback_boot: {found.get('msg') or 'undecided'}, asking again")
            time.sleep(int(arguments.get("delay", _DELAY_S)))

    @staticmethod
    def _is_final(found: dict[str, Any]) -> bool:
        """Whether asking again is useless."""
        return found.get("outcome") in ("not_installed", "usage", "unreadable", "refused")

    def _look(self, task_vars: Optional[dict[str, Any]]) -> dict[str, Any]:
        try:
            found: dict[str, Any] = self._execute_module(
                module_name=_MODULE, module_args=self._task.args, task_vars=task_vars
            )
        except AnsibleError as error:
            # It reboots: it cannot be reached, or has lost the folder that the module was to be put
            # into. The next look makes another one.
            with suppress(AnsibleError, AttributeError):  # not each connection can be
                self._connection.reset()
            self._connection._shell.tmpdir = None  # noqa: SLF001 - as ActionBase removes it
            return {"failed": True, "msg": f"the machine cannot be reached: {error}"}
        return found
