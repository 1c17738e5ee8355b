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
    from fs_rollback.config import Config
    from fs_rollback.core.packages import Item, changes
    from fs_rollback.core.record import Transaction
    from fs_rollback.errors import Error, RefusedError
    from fs_rollback.system import configuration, packagekit_state, plugin_state, transaction
    from fs_rollback.system.changes import installed
    from fs_rollback.system.files import opened
except ImportError as error:
    _missing: Optional[ImportError] = error
else:
    _missing = None

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_DIRECTORY = "/var/lib/PackageKit"
_PREPARED = f"{_DIRECTORY}/prepared-update"
_RESULTS = f"{_DIRECTORY}/offline-update-competed"  # sic


def main() -> int:
    """Take the snapshot, and say what came of it; return the exit code."""
    if _missing is not None:
        # The root of a btrfs subvolume has inode 256, whatever cannot be imported.
        return _stop(f"it cannot be loaded: {_missing}.") if os.stat("/").st_ino == 256 else 0
    config, broken = configuration.usable()
    try:
        _protect(config, broken)
    except Exception as error:  # noqa: BLE001 - whatever it is, it decides about the update
        sentence = error.line if isinstance(error, Error) else f"{error}."
        if isinstance(error, RefusedError) or config.on_failure == "abort":
            return _stop(report.clean(sentence))
        _say(f"{sentence} The update goes on without a way back.")
    return 0


def _protect(config: Config, broken: Error | None) -> None:
    result: transaction.Unprotected | transaction.Taken | None = transaction.unprotected()
    if result is None:
        result = _left_to_others()
    if result is None:
        if broken is not None:
            raise broken
        wanted = Transaction("packagekit", ("pk-offline-update",), "root", changes(_items()))
        result = transaction.before(wanted, config=config, said=_say)
    if isinstance(result, transaction.Unprotected):
        if not result.quiet:
            _say(result.reason)
        return
    _say(f"snapshotting /: {result.path}")
    problems = [*result.warnings, *result.menu.problems]
    try:
        # There is no hook after the update: what is no longer kept goes now.
        problems += transaction.prune(result)
    except (Error, OSError) as error:
        problems.append(str(error))
    for problem in problems:
        _say(problem)


def _left_to_others() -> transaction.Unprotected | None:
    """Return why none is taken here: it is not wanted, or the update itself takes it."""
    with opened("/") as root:
        if packagekit_state.runs_actions(root):
            return transaction.Unprotected("dnf 5's action takes the snapshot", quiet=True)
        try:
            off = plugin_state.switched_off(root)
        except Error:
            return None  # what cannot be read switches nothing off
    return transaction.Unprotected(f"no snapshot: {off.problem}", quiet=False) if off else None


def _items() -> Iterable[Item]:
    """Give what is prepared, and what that replaces, as a transaction of dnf has it.

    Nothing for a system upgrade, which is not worked out before it runs, and as much as can be
    read: it is only told to people.
    """
    present: dict[tuple[str, str], Item] = {}
    root = os.open("/", os.O_PATH | os.O_DIRECTORY)
    try:
        present = {(item.name, item.arch): item for item in installed(root)}
    except (Error, OSError) as error:
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
    with suppress(OSError, configparser.Error, UnicodeDecodeError):
        parser.read(_PREPARED, encoding="utf-8")
    identifiers = parser.get("update", "prepared_ids", fallback="").split(",")
    found = (tuple(identifier.split(";")) for identifier in identifiers)
    return [(parts[0], parts[1], parts[2]) for parts in found if len(parts) == 4]


def _stop(sentence: str) -> int:
    """Say why the update is not made, to PackageKit too: a desktop shows it after the reboot."""
    _say(f"{sentence} The update is not made.")
    # GLib, "Key-value file parser": a backslash is written twice.
    details = sentence.replace("\\", "\\\\")
    with suppress(OSError), open(_RESULTS, "w", encoding="utf-8") as file:
        file.write(
            "[PackageKit Offline Update Results]\nSuccess=false\nErrorCode=transaction-error\n"
            f"ErrorDetails=fs-snapshot: {details}\n"
        )
    return 1


def _say(text: str) -> None:
    with suppress(OSError):  # nobody listens: no reason to decide otherwise
        print(f"fs-snapshot: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
