# SPDX-License-Identifier: GPL-2.0-or-later
"""The ways in which packages change, and which of them take a snapshot on this machine."""

from __future__ import annotations

import enum
import os
from typing import Callable, NamedTuple, Optional

from ...errors import KernelError
from ..linux import files
from ..machine import configuration, unprotected
from ..machine.host import Host
from . import dnf4_state, dnf5_state, packagekit_state
from .dnf4_state import PluginState, State

_DNF, _DNF5 = "usr/bin/dnf", "usr/bin/dnf5"
_DNF4 = ("usr/bin/dnf-3", "usr/bin/dnf4")
_DAEMON = (
    "usr/bin/dnf5daemon-server",
    "usr/sbin/dnf5daemon-server",
    "usr/lib/systemd/system/dnf5daemon-server.service",
)
_RPM = "no plugin sees it; run 'fs-rollback create' first"


class Coverage(enum.Enum):
    """Whether a snapshot is taken before packages change on a road."""

    COVERED = "covered"
    NOT_COVERED = "not covered"
    NOT_INSTALLED = "not installed"
    UNKNOWN = "unknown"


class Road(NamedTuple):
    """A way in which packages change: its name, whether it is covered, why not, and what to do.

    Without advice nothing can be done about it here: it is shown, but needs no attention.
    """

    name: str
    state: Coverage
    why: str = ""
    advice: str = ""

    def to_json(self) -> dict[str, Optional[str]]:
        """Return it as JSON data; nothing to say is null."""
        return {
            "name": self.name,
            "state": self.state.value,
            "why": self.why or None,
            "advice": self.advice or None,
        }


def roads(host: Host) -> tuple[Road, ...]:
    """Return all roads, always the same ones in the same order. Raises KernelError.

    `dnf` is that command, whichever dnf it is; dnf4 and dnf5 are these under names of their own. A
    file that cannot be read makes the roads unknown that need it.
    """
    reason = _why_none(host)
    return tuple(_road(host, name, look, reason) for name, look in _ROADS.items())


def of_dnf(host: Host) -> PluginState:
    """Return whether the next transaction of the command `dnf` takes a snapshot, dnf 4 or dnf 5."""
    return _addressed(host, _look(_engine, host.root_fd) or dnf4_state.look(host.root_fd))


def _road(host: Host, name: str, look: _Looking, reason: str) -> Road:
    found = _look(look, host.root_fd)
    if found is None:
        return Road(name, Coverage.NOT_INSTALLED)
    if reason:
        return Road(name, Coverage.NOT_COVERED, reason)
    found = _addressed(host, found)
    return Road(name, _COVERAGE[found.state], found.problem, found.advice)


_COVERAGE = {
    State.ON: Coverage.COVERED,
    State.OFF: Coverage.NOT_COVERED,
    State.BROKEN: Coverage.NOT_COVERED,
    State.UNKNOWN: Coverage.UNKNOWN,
}


def _why_none(host: Host) -> str:
    """Return why no transaction on this machine takes a snapshot, "" if they can."""
    if reason := host.unsupported():
        return reason
    if host.is_running and (without := unprotected.unprotected()) is not None:
        return without.reason
    config, broken = configuration.usable(host.root)
    return str(broken) if broken is not None and config.on_failure != "abort" else ""


def _addressed(host: Host, found: PluginState) -> PluginState:
    """Return it with advice that is not followed on another system than the one it is about."""
    is_here = host.root == "/" or not found.advice
    return found if is_here else found._replace(advice=f"In that system: {found.advice}")


def _look(look: _Looking, tree: int) -> PluginState | None:
    try:
        return look(tree)
    except KernelError as error:  # said as what it is
        problem = f"whether it takes snapshots is unknown: {error}"
        return PluginState(State.UNKNOWN, problem, error.hint or "Correct or remove the file.")


def _has(tree: int, *paths: str) -> bool:
    return any(files.status_of(tree, path) is not None for path in paths)


def _engine(tree: int) -> PluginState | None:
    program = files.real_path(tree, _DNF)
    if program is None:
        return None
    is_dnf5 = os.path.basename(program) == "dnf5"
    return dnf5_state.look(tree) if is_dnf5 else dnf4_state.look(tree)


def _dnf4(tree: int) -> PluginState | None:
    return dnf4_state.look(tree) if _has(tree, *_DNF4) else None


def _dnf5(tree: int) -> PluginState | None:
    return dnf5_state.look(tree) if _has(tree, _DNF5) else None


def _dnf5daemon(tree: int) -> PluginState | None:
    more = (dnf5_state.DAEMON_CONF,)
    return dnf5_state.look(tree, more) if _has(tree, *_DAEMON) else None


def _offline(tree: int) -> PluginState | None:
    """Return the first that is not covered: dnf 4's and 5's run their plugins at the next boot."""
    installed = [look(tree) for look in (_engine, _dnf4, _dnf5, packagekit_state.offline)]
    found = [state for state in installed if state is not None]
    return next((s for s in found if s.state is not State.ON), found[0] if found else None)


def _rpm(tree: int) -> PluginState | None:
    return PluginState(State.OFF, _RPM) if _has(tree, "usr/bin/rpm") else None


_Looking = Callable[[int], Optional[PluginState]]
_ROADS: dict[str, _Looking] = {
    "dnf": _engine,
    "dnf4": _dnf4,
    "dnf5": _dnf5,
    "dnf5daemon": _dnf5daemon,
    "PackageKit": packagekit_state.online,
    "offline updates": _offline,
    "rpm": _rpm,
}
