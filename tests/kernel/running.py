# SPDX-License-Identifier: GPL-2.0-or-later
"""Boots of machines that are only mounted.

Only a running system can say that it came up in the new root of a rollback, and these machines have
no programs to run. So a file beside the root says in which boot the machine is, as
/proc/sys/kernel/random/boot_id does; without it the machine does not run, as in a rescue system.
What runs for real is in tests/dnf and tests/vm.
"""

from __future__ import annotations

import os
from pathlib import Path

from fs_rollback.cli import terminal
from fs_rollback.system.machine.host import Host
from fs_rollback.system.pending import state

AT_ONCE = "TEST_SHOWS_AT_ONCE"
_SUFFIX = ".boot"
_boot_of = state.boot_of


def install() -> None:
    """Have this process read the file where it asks for the boot of a machine.

    With AT_ONCE in its environment it shows at once what it shows of what takes a second.
    """
    state.boot_of = _from_file
    if AT_ONCE in os.environ:
        terminal._DELAY_S = terminal._EVERY_S = terminal._LINE_EVERY_S = 0.0


def begin_boot(root: Path) -> None:
    """Say that the machine with this root has been booted anew."""
    file = _file_of(str(root))
    number = int(file.read_text()) if file.exists() else 0
    file.write_text(str(number + 1))


def _from_file(host: Host) -> str:
    file = _file_of(host.root)
    return file.read_text() if file.exists() else _boot_of(host)


def _file_of(root: str) -> Path:
    return Path(root.rstrip("/") + _SUFFIX)
