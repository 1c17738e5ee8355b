# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether transactions of a machine are protected: would dnf 4 run, and load the plugin."""

from __future__ import annotations

import enum
import os
import stat
from typing import NamedTuple

from ..core import dnf_conf
from ..core.dnf_conf import Setting
from ..errors import KernelError
from . import files
from .host import Host

_LIBRARIES = ("usr/lib", "usr/lib64", "usr/local/lib")
_PACKAGES = ("site-packages", "dist-packages")
_DNF_CONF = "/etc/dnf/dnf.conf"
_CONFIG_DIRECTORY = "/etc/dnf/plugins"
_PLUGIN = "fs_snapshot.py"
_MOST_BYTES = 1 << 20


class State(enum.Enum):
    """What the next transaction of dnf meets; `BROKEN`: every command of dnf fails."""

    ON = "on"
    OFF = "off"
    BROKEN = "broken"
    UNKNOWN = "unknown"


class PluginState(NamedTuple):
    """The state, the reason in words, and what to do; both "" where the plugin is on."""

    state: State
    problem: str = ""
    advice: str = ""


class _BrokenFileError(Exception):
    """dnf ends at a file: its message says where and why."""


def look(host: Host) -> PluginState:
    """Return what dnf makes of the plugin, asked of the files as dnf itself reads them.

    That is dnf/plugin.py and dnf/conf/config.py of dnf 4; dnf 5 does not load it at all.
    """
    try:
        return _look(host)
    except _BrokenFileError as error:
        return PluginState(
            State.BROKEN,
            f"every dnf command fails: {error}",
            "Correct it. A comment needs a line of its own.",
        )
    except KernelError as error:
        problem = f"whether dnf loads the plugin fs-snapshot is unknown: {error}"
        return PluginState(State.UNKNOWN, problem, error.hint or "Correct or remove the file.")


def _look(host: Host) -> PluginState:
    if _dnf_is_dnf5(host):
        if _is_installed(host, None):
            return _off("'dnf' is dnf 5 here, which does not load this plugin for dnf 4")
        return _not_installed()
    main = _settings(host, _DNF_CONF)
    for key, setting in main.items():
        if not setting.is_text():
            raise _BrokenFileError(f"{_DNF_CONF} line {setting.line}: {key} is not UTF-8")
    places = main.get("pluginpath")
    if not _is_installed(host, places):
        if places is None or not _is_installed(host, None):
            return _not_installed()
        where = f"pluginpath in {_DNF_CONF} line {places.line}"
        return _off(f"dnf does not load the plugin fs-snapshot: {where} leads elsewhere")
    plugins = main.get("plugins")
    # dnf complains of what is no boolean, and goes on with its default.
    if plugins is not None and plugins.boolean() is False:
        return _off(f"all dnf plugins are switched off in {_DNF_CONF} line {plugins.line}")
    enabled, path = None, ""
    directories = main.get("pluginconfpath")
    for directory in directories.words() if directories else (_CONFIG_DIRECTORY,):
        file = f"{directory.rstrip('/')}/fs-snapshot.conf"
        found = _settings(host, file).get("enabled")
        if found is not None:
            enabled, path = found, file
    if enabled is not None and enabled.boolean() is None:
        raise _BrokenFileError(f"{path} line {enabled.line}: enabled cannot be {enabled.value!r}")
    if enabled is not None and not enabled.boolean():
        return _off(f"the dnf plugin fs-snapshot is switched off in {path} line {enabled.line}")
    return PluginState(State.ON)


def _off(problem: str) -> PluginState:
    return PluginState(State.OFF, problem, "Switch it on, or take snapshots by hand.")


def _not_installed() -> PluginState:
    return PluginState(
        State.OFF,
        "the dnf plugin fs-snapshot is not installed: transactions take no snapshot",
        "Install it, or take snapshots by hand.",
    )


def _is_installed(host: Host, places: Setting | None) -> bool:
    """Whether the plugin is in a directory of `places`, or where dnf looks without these."""
    directories = places.words() if places is not None else _default_places(host)
    paths = (f"{directory}/{_PLUGIN}" for directory in directories)
    return any(files.device_of(host.root_fd, path) is not None for path in paths)


def _default_places(host: Host) -> list[str]:
    """Return the directories of plugins beside dnf itself: an older Python's are left over."""
    found = [
        f"{library}/{python}/{packages}"
        for library in _LIBRARIES
        for python in files.list_in_tree(host.root_fd, library) or []
        if python.startswith("python3")
        for packages in _PACKAGES
    ]
    with_dnf = [p for p in found if files.device_of(host.root_fd, f"{p}/dnf") is not None]
    return [f"{place}/dnf-plugins" for place in with_dnf or found]


def _settings(host: Host, path: str) -> dict[str, Setting]:
    """Return what a file says in its section [main]; nothing where dnf passes it over."""
    status = files.status_of(host.root_fd, path)
    if status is not None and stat.S_ISDIR(status.st_mode) and path == _DNF_CONF:
        raise _BrokenFileError(f"{path} is a directory")
    if status is None or not stat.S_ISREG(status.st_mode):
        return {}
    try:
        return dnf_conf.main_section(files.read_bytes(host.root_fd, path, _MOST_BYTES))
    except dnf_conf.DnfConfError as error:
        raise _BrokenFileError(f"{path} line {error.line}: {error}") from error


def _dnf_is_dnf5(host: Host) -> bool:
    try:
        target = os.readlink("usr/bin/dnf", dir_fd=host.root_fd)
    except OSError:
        return False
    return os.path.basename(target) == "dnf5"
