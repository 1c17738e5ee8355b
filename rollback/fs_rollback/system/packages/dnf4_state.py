# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether dnf 4 would run, and load the plugin; and the one switch for all package managers.

Every function takes an open directory, the root of a system. coverage.py asks for all engines.
"""

from __future__ import annotations

import enum
import shlex
import stat
from typing import NamedTuple

from ...core.packages import dnf_conf
from ...core.packages.dnf_conf import Setting
from ...errors import KernelError
from ..linux import files

_LIBRARIES = ("usr/lib", "usr/lib64", "usr/local/lib")
_PACKAGES = ("site-packages", "dist-packages")
DNF_CONF = "/etc/dnf/dnf.conf"
_CONFIG_DIRECTORY = "/etc/dnf/plugins"
SWITCH = f"{_CONFIG_DIRECTORY}/fs-snapshot.conf"
_PLUGIN = "fs_snapshot.py"
_MOST_BYTES = 1 << 20


class State(enum.Enum):
    """What the next transaction meets; `BROKEN`: every command of that dnf fails."""

    ON = "on"
    OFF = "off"
    BROKEN = "broken"
    UNKNOWN = "unknown"


class PluginState(NamedTuple):
    """The state, the reason in words, and what to do; both "" where the plugin is on."""

    state: State
    problem: str = ""
    advice: str = ""


class BrokenFileError(Exception):
    """dnf ends at a file: its message says where and why."""


def look(tree: int) -> PluginState:
    """Return what dnf 4 makes of the plugin, asked of the files as dnf itself reads them.

    That is dnf/plugin.py and dnf/conf/config.py of dnf 4.
    """
    try:
        return _look(tree)
    except BrokenFileError as error:  # the answer: dnf ends there
        return PluginState(
            State.BROKEN,
            f"every dnf command fails: {error}",
            "Correct that line. A comment needs its own line.",
        )
    except KernelError as error:  # said as what it is
        problem = f"cannot determine whether dnf loads the plugin fs-snapshot: {error}"
        return PluginState(State.UNKNOWN, problem, error.hint or "Correct or remove the file.")


def _look(tree: int) -> PluginState:
    main = settings(tree, DNF_CONF)
    for key, setting in main.items():
        if not setting.is_text():
            raise BrokenFileError(f"{DNF_CONF} line {setting.line}: {key} is not UTF-8")
    places = main.get("pluginpath")
    if not _is_installed(tree, places):
        if places is None or not _is_installed(tree, None):
            return _not_installed()
        where = f"pluginpath in {DNF_CONF} line {places.line}"
        problem = f"dnf does not load the plugin fs-snapshot: {where} names another directory"
        return PluginState(State.OFF, problem, "Remove that line, or add the plugin's directory.")
    plugins = main.get("plugins")
    # dnf complains of what is no boolean, and goes on with its default.
    if plugins is not None and plugins.boolean() is False:
        return all_off(DNF_CONF, plugins)
    enabled, path = None, ""
    directories = main.get("pluginconfpath")
    for directory in directories.words() if directories else (_CONFIG_DIRECTORY,):
        file = f"{directory.rstrip('/')}/fs-snapshot.conf"
        found = settings(tree, file).get("enabled")
        if found is not None:
            enabled, path = found, file
    if enabled is not None and enabled.boolean() is None:
        raise BrokenFileError(f"{path} line {enabled.line}: enabled cannot be {enabled.value!r}")
    if enabled is not None and not enabled.boolean():
        return _switched_off(path, enabled)
    return PluginState(State.ON)


def switched_off(tree: int) -> PluginState | None:
    """Return what to say where the one switch is off, for whoever is not dnf 4 and obeys it.

    None where it is on, and where the file says nothing that can be used: nobody has switched it
    off then. Raises KernelError.
    """
    try:
        enabled = settings(tree, SWITCH).get("enabled")
    except BrokenFileError:  # see above: then snapshots are taken
        return None
    if enabled is None or enabled.boolean() is not False:
        return None
    return _switched_off(SWITCH, enabled)


def _switched_off(path: str, enabled: Setting) -> PluginState:
    problem = f"fs-snapshot is switched off in {path} line {enabled.line}"
    return PluginState(State.OFF, problem, writing("enabled = 1", path, enabled))


def all_off(path: str, plugins: Setting) -> PluginState:
    """Return what to say of a `plugins` that is no; both dnf 4 and 5 have it."""
    problem = f"all dnf plugins are switched off in {path} line {plugins.line}"
    return PluginState(State.OFF, problem, writing("plugins = 1", path, plugins))


def writing(text: str, path: str, setting: Setting) -> str:
    """Return the command that puts a line in the place of a setting, which is one line itself."""
    return f"sed -i '{setting.line}c{text}' {shlex.quote(path)}"


def _not_installed() -> PluginState:
    return PluginState(
        State.OFF,
        "the dnf plugin fs-snapshot is not installed: transactions of dnf 4 take no snapshot",
        "dnf install python3-dnf-plugin-fs-snapshot",
    )


def _is_installed(tree: int, places: Setting | None) -> bool:
    """Whether the plugin is in a directory of `places`, or where dnf looks without these."""
    directories = places.words() if places is not None else _default_places(tree)
    paths = (f"{directory}/{_PLUGIN}" for directory in directories)
    return any(files.device_of(tree, path) is not None for path in paths)


def _default_places(tree: int) -> list[str]:
    """Return the directories of plugins beside dnf itself: an older Python's are left over."""
    found = [
        f"{library}/{python}/{packages}"
        for library in _LIBRARIES
        for python in files.list_in_tree(tree, library) or []
        if python.startswith("python3")
        for packages in _PACKAGES
    ]
    with_dnf = [p for p in found if files.device_of(tree, f"{p}/dnf") is not None]
    return [f"{place}/dnf-plugins" for place in with_dnf or found]


def settings(tree: int, path: str) -> dict[str, Setting]:
    """Return what a file says in its section [main]; nothing where dnf passes it over.

    Raises BrokenFileError where dnf would end at it, and KernelError.
    """
    status = files.status_of(tree, path)
    if status is not None and stat.S_ISDIR(status.st_mode) and path == DNF_CONF:
        raise BrokenFileError(f"{path} is a directory")
    if status is None or not stat.S_ISREG(status.st_mode):
        return {}
    try:
        return dnf_conf.main_section(files.read_bytes(tree, path, _MOST_BYTES))
    except dnf_conf.DnfConfError as error:
        raise BrokenFileError(f"{path} line {error.line}: {error}") from error
