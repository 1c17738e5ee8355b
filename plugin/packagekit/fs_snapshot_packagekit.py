#!/usr/bin/python3 -s
# SPDX-License-Identifier: GPL-2.0-or-later
"""fs-snapshot for PackageKit: a snapshot before an offline update, as before a transaction of dnf.

Started by packagekit-offline-update.service before its own program, in boots that are for an update
of PackageKit's. Its libdnf backend loads no plugins of dnf 4, and writes to dnf's history, where
the end of the update is found. With its dnf5 backend dnf 5's action takes the snapshot, if it can.
A thin adapter, as the plugin for dnf 4 is.

Exit code 0: go on, with a snapshot or without a need for one. 1: the update must not run.
"""

from __future__ import annotations

import configparser
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Optional

try:
    from fs_rollback import report
    from fs_rollback.core.packages.changes import Item, changes
    from fs_rollback.core.snapshots.record import Transaction
    from fs_rollback.errors import Error
    from fs_rollback.system.comparison.database import installed
    from fs_rollback.system.hooks import protection, transaction
    from fs_rollback.system.linux.files import opened
    from fs_rollback.system.packages import packagekit_state
except ImportError as error:  # the update is stopped below
    _missing: Optional[ImportError] = error
else:
    _missing = None

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_DIRECTORY = "/var/lib/PackageKit"
_PREPARED = f"{_DIRECTORY}/prepared-update"
_RESULTS = f"{_DIRECTORY}/offline-update-competed"  # sic
_WAY_OUT = "To update without a snapshot: on_failure = warn in /etc/fs-rollback.conf."


def main() -> int:
    """Take the snapshot, and say what came of it; return the exit code."""
    if _missing is not None:
        # The root of a btrfs subvolume has inode 256, whatever cannot be imported.
        sentence = f"the plugin cannot be loaded: {_missing}."
        return _stop(sentence) if os.stat("/").st_ino == 256 else 0
    with opened("/") as root:
        if packagekit_state.runs_actions(root):
            return 0  # dnf 5's own action takes the snapshot
    found = protection.protect(_describe, _WAY_OUT, _say, reads_switch=True)
    if found.stop:
        return _stop(report.clean(found.stop))
    problems = [*found.warnings]
    if found.taken is not None:
        _say(found.line)
        try:
            # There is no hook after the update: what is no longer kept goes now.
            problems += transaction.prune(found.taken)
            problems += transaction.guard(found.taken)
        except (Error, OSError) as error:  # said: the snapshot is there
            problems.append(str(error))
    for problem in problems:
        _say(problem)
    return 0


def _describe() -> protection.Described:
    found = Transaction("packagekit", ("pk-offline-update",), "root", changes(_items()))
    return protection.Described(found, coming=None)  # it has not told the sizes


def _items() -> Iterable[Item]:
    """Give what is prepared, and what that replaces, as a transaction of dnf has it.

    Nothing for a system upgrade, which is not worked out before it runs, and as much as can be
    read: it is only told to people.
    """
    present: dict[tuple[str, str], Item] = {}
    root = os.open("/", os.O_PATH | os.O_DIRECTORY)
    try:
        present = {(item.name, item.arch): item for item in installed(root)}
    except (Error, OSError) as error:  # see above
        _say(str(error))
    finally:
        os.close(root)
    for name, version, arch in _prepared():
        old = present.get((name, arch))
        if old is not None:
            yield old._replace(action="upgraded")
        yield Item("install" if old is None else "upgrade", name, arch, version)


def _prepared() -> Sequence[tuple[str, str, str]]:
    """Return name, version and architecture of each package of a prepared update.

    A package ID is `name;version;arch;data` (PackageKit, pk-package-id.c).
    """
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    with suppress(OSError, configparser.Error, UnicodeDecodeError):  # see `_items`
        parser.read(_PREPARED, encoding="utf-8")
    identifiers = parser.get("update", "prepared_ids", fallback="").split(",")
    found = (tuple(identifier.split(";")) for identifier in identifiers)
    return [(parts[0], parts[1], parts[2]) for parts in found if len(parts) == 4]


def _stop(sentence: str) -> int:
    """Say why the update is not made, to PackageKit too: a desktop shows it after the reboot."""
    _say(f"{sentence} The update was not installed.")
    # GLib, "Key-value file parser": a backslash is written twice.
    details = sentence.replace("\\", "\\\\")
    # The exit code stops the update all the same.
    with suppress(OSError), open(_RESULTS, "w", encoding="utf-8") as file:
        file.write(
            "[PackageKit Offline Update Results]\nSuccess=false\nErrorCode=transaction-error\n"
            f"ErrorDetails=fs-snapshot: {details}\n"
        )
    return 1


def _say(text: str) -> None:
    with suppress(OSError):  # nobody listens: no reason to decide otherwise
        print(f"fs-snapshot: {text if _missing else report.clean(text)}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
