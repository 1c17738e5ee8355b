# SPDX-License-Identifier: GPL-2.0-or-later
"""Which updates of PackageKit (GNOME Software, Discover) take a snapshot, and who takes it.

Its backend dnf is libdnf, which loads no plugins: its offline updates are covered by our drop-in of
packagekit-offline-update.service. Its backend dnf5 runs the actions of dnf 5, so nothing else may
take a snapshot there: there would be two.
"""

from __future__ import annotations

import os
import shlex

from ...core.packages import packagekit_conf
from ...errors import KernelError
from ..linux import files
from . import dnf4_state, dnf5_state
from .dnf4_state import PluginState, State

_DAEMONS = ("usr/libexec/packagekitd", "usr/lib/packagekit/packagekitd")
_CONF = "etc/PackageKit/PackageKit.conf"
_PROGRAM = "/usr/libexec/fs-snapshot-packagekit"
_DROP_IN = "systemd/system/packagekit-offline-update.service.d/fs-snapshot.conf"
# systemd.unit(5): the first one counts.
_DROP_INS = tuple(f"/{place}/{_DROP_IN}" for place in ("etc", "run", "usr/lib"))
_OURS = _DROP_INS[-1]


def backend(tree: int) -> str:
    """Return the name of the backend, "" where there is no PackageKit. Raises KernelError."""
    if all(files.status_of(tree, path) is None for path in _DAEMONS):
        return ""
    libraries = dnf5_state.in_libraries(tree, "packagekit-backend")
    return packagekit_conf.backend(files.read_in_tree(tree, _CONF) or "", libraries)


def runs_actions(tree: int) -> bool:
    """Whether dnf 5's action takes the snapshot before every update of PackageKit.

    False too where that is unknown: one snapshot too many is better than none.
    """
    try:
        return backend(tree) == "dnf5" and dnf5_state.look(tree).state is State.ON
    except KernelError:  # see above
        return False


def online(tree: int) -> PluginState | None:
    """Return what its next update meets while the system runs; None where it is not installed."""
    name = backend(tree)
    if name == "dnf5":
        return dnf5_state.look(tree)
    if name == "dnf":
        return PluginState(State.OFF, "its backend loads no plugins")
    return PluginState(State.OFF, f"its backend is {name}, not dnf") if name else None


def offline(tree: int) -> PluginState | None:
    """Return what its next offline update meets; None where it is not installed."""
    name = backend(tree)
    if not name or name == "dnf5":
        return dnf5_state.look(tree) if name else None
    path, text = _drop_in(tree)
    if _PROGRAM not in text:
        problem = "offline updates of PackageKit take no snapshot: "
        if path == _OURS:
            return PluginState(State.OFF, f"{problem}{_OURS} is missing", _again())
        return PluginState(
            State.OFF,
            f"{problem}{path} overrides the drop-in of fs-rollback",
            f"rm {shlex.quote(path)}",
        )
    program = files.status_of(tree, _PROGRAM)
    if program is None or not program.st_mode & 0o111:
        problem = f"offline updates of PackageKit fail: {_PROGRAM} is missing or not executable"
        return PluginState(State.OFF, problem, _again())
    return dnf4_state.switched_off(tree) or PluginState(State.ON)


def _drop_in(tree: int) -> tuple[str, str]:
    """Return the path and the text of the drop-in that systemd reads."""
    for path in _DROP_INS:
        directory, name = os.path.split(path)
        # A link to /dev/null is there, and switches it off.
        if name in (files.list_in_tree(tree, directory) or []):
            return path, files.read_in_tree(tree, path) or ""
    return _OURS, ""


def _again() -> str:
    return "dnf reinstall fs-rollback"
