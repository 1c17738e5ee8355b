# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether dnf 5 takes a snapshot: does libdnf5 load its Actions plugin, and that find our action.

The files are read as libdnf5 5.2.11 to 5.4.4 reads them: Base::load_config() and
load_plugin_config() in base.cpp, get_config_dirs() in plugin/utils.cpp, plugin/plugins.cpp.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ...core.packages import dnf5_actions
from ...core.packages.dnf_conf import Setting
from ...errors import KernelError
from ..linux import files
from . import dnf4_state
from .dnf4_state import DNF_CONF, BrokenFileError, PluginState, State, settings

# The first directory's file counts where two have one of the same name.
_DROP_INS = ("/etc/dnf/libdnf5.conf.d", "/usr/share/dnf5/libdnf.conf.d")
_PLUGINS = ("/etc/dnf/libdnf5-plugins", "/usr/share/dnf5/libdnf.plugins.conf.d")  # the latter: 5.4
_LIBRARIES = "libdnf5/plugins"
_ENABLED = {"host-only": True, "installroot-only": False}
_PACKAGE = "libdnf5-plugin-fs-snapshot"
_MOST_BYTES = 1 << 20
DAEMON_CONF = "/etc/dnf/dnf5daemon-server.conf"


class _Said(NamedTuple):
    """A setting of [main], and the file that has it."""

    path: str
    setting: Setting


class _Plugin(NamedTuple):
    """A plugin of libdnf5, as its file says."""

    name: str
    path: str
    enabled: Setting

    @property
    def is_on(self) -> bool:
        """Whether it is loaded for the running system. Raises BrokenFileError, as dnf 5 ends."""
        value = self.enabled.value
        is_on = _ENABLED[value] if value in _ENABLED else self.enabled.boolean()
        if is_on is None:
            line = self.enabled.line
            raise BrokenFileError(f"{self.path} line {line}: enabled cannot be {value!r}")
        return is_on


def look(tree: int, more: Sequence[str] = ()) -> PluginState:
    """Return what the next transaction of dnf 5 meets.

    `more` are files that are read after dnf.conf: dnf5daemon-server has one of its own.
    """
    try:
        return _look(tree, more)
    except BrokenFileError as error:  # the answer: dnf 5 ends there
        return PluginState(State.BROKEN, f"every dnf5 command fails: {error}", "Correct it.")
    except KernelError as error:  # said as what it is
        problem = f"cannot determine whether dnf 5 takes snapshots: {error}"
        return PluginState(State.UNKNOWN, problem, error.hint or "Correct or remove the file.")


def history_directory(tree: int) -> str:
    """Return where dnf.conf has dnf 5 keep its history; its default where that says nothing.

    Raises BrokenFileError, and KernelError, where it cannot be told what that says.
    """
    main = _main(tree, ())
    said = main.get("transaction_history_dir") or main.get("system_state_dir")
    return said.setting.value if said else "/usr/lib/sysimage/libdnf5"


def in_libraries(tree: int, path: str) -> list[str]:
    """Return the names in a directory of libraries, wherever this distribution has these."""
    triplets = files.list_in_tree(tree, "usr/lib") or []
    places = ("usr/lib64", "usr/lib", *(f"usr/lib/{name}" for name in triplets))
    listed = (files.list_in_tree(tree, f"{place}/{path}") for place in places)
    return [name for names in listed for name in names or []]


def _look(tree: int, more: Sequence[str]) -> PluginState:
    main = _main(tree, more)
    directories = _plugin_directories(main)
    program = files.status_of(tree, dnf5_actions.PROGRAM)
    actions = _our_action(tree, directories)
    if program is None and actions is None:
        return _off("is not installed", f"dnf install {_PACKAGE}")
    if "plugins" in main:
        return dnf4_state.all_off(*main["plugins"])
    root = main.get("installroot")
    if root is not None and root.setting.value != "/":
        where = f"{root.path} line {root.setting.line}"
        problem = f"dnf 5 takes no snapshot: its installroot is not '/' in {where}"
        return PluginState(
            State.OFF, problem, dnf4_state.writing("installroot = /", root.path, root.setting)
        )
    plugin = _actions_plugin(tree, directories, main.get("pluginpath"))
    if plugin is None:
        missing = "libdnf5-plugin-actions"
        return _off(f"needs {missing}, which is not installed", f"dnf install {missing}")
    if not plugin.is_on:
        problem = (
            "dnf 5 takes no snapshot: its plugin 'actions' is switched off in"
            f" {plugin.path} line {plugin.enabled.line}"
        )
        command = dnf4_state.writing("enabled = 1", plugin.path, plugin.enabled)
        return PluginState(State.OFF, problem, command)
    return _of_files(program, actions) or dnf4_state.switched_off(tree) or PluginState(State.ON)


def _of_files(
    program: os.stat_result | None, found: tuple[str, dnf5_actions.Action] | None
) -> PluginState | None:
    """Return what is wrong with the files of our package; None if nothing is."""
    again = f"dnf5 --disable-plugin=actions reinstall {_PACKAGE}"
    if found is None:
        return _off("lacks its file in actions.d", again)
    path, action = found
    if not action.is_whole:
        return _off(
            f"has an edited action: {path} line {action.line}", f"rm {shlex.quote(path)} && {again}"
        )
    if program is None or not stat.S_ISREG(program.st_mode):
        return _off(f"lacks {dnf5_actions.PROGRAM}", again)
    if not program.st_mode & 0o111:
        problem = f"cannot run: {dnf5_actions.PROGRAM} is not executable"
        return _off(problem, f"chmod 755 {dnf5_actions.PROGRAM}")
    return None


def _off(problem: str, command: str) -> PluginState:
    return PluginState(State.OFF, f"dnf 5 takes no snapshot: {_PACKAGE} {problem}", command)


def _main(tree: int, more: Sequence[str]) -> dict[str, _Said]:
    """Return the settings of the section [main] that say something here.

    dnf 5 warns of a value that it cannot use, and passes over it.
    """
    found: dict[str, _Said] = {}
    for path in (*_sorted(tree, _DROP_INS, ".conf"), DNF_CONF, *more):
        for key, setting in settings(tree, path).items():
            if key != "plugins" or setting.boolean() is not None:
                found[key] = _Said(path, setting)
    if "plugins" in found and found["plugins"].setting.boolean():
        del found["plugins"]
    return found


def _plugin_directories(main: dict[str, _Said]) -> Sequence[str]:
    said = main.get("plugin_conf_dir") or main.get("pluginconfpath")
    return said.setting.words() if said else _PLUGINS


def _actions_plugin(tree: int, directories: Sequence[str], places: _Said | None) -> _Plugin | None:
    """Return the plugin that runs actions. Raises BrokenFileError where dnf 5 cannot load one.

    Also where that is another plugin: dnf 5 ends at any.
    """
    found = None
    for plugin in _plugins(tree, directories):
        if plugin.is_on and not _has_library(tree, plugin.name, places):
            raise BrokenFileError(f"{plugin.path}: the plugin {plugin.name} has no library")
        if plugin.name == "actions" and not (found and found.is_on):
            found = plugin
    return found


def _plugins(tree: int, directories: Sequence[str]) -> Iterator[_Plugin]:
    for path in _sorted(tree, directories, ".conf"):
        said = settings(tree, path)
        if "enabled" not in said:
            raise BrokenFileError(f"{path} does not say whether it is enabled")
        stem = os.path.basename(path)[: -len(".conf")]
        name = said["name"].value if "name" in said else stem
        yield _Plugin(name, path, said["enabled"])


def _has_library(tree: int, name: str, places: _Said | None) -> bool:
    if places is None:
        return f"{name}.so" in in_libraries(tree, _LIBRARIES)
    return files.status_of(tree, f"{places.setting.value}/{name}.so") is not None


def _our_action(tree: int, directories: Sequence[str]) -> tuple[str, dnf5_actions.Action] | None:
    """Return the file and the line that runs our program, one that is not whole if there is any.

    dnf 5 runs only the first of two with the same command.
    """
    found = None
    for path in _sorted(tree, [f"{d}/actions.d" for d in directories], ".actions"):
        text = files.read_bytes(tree, path, _MOST_BYTES).decode("utf-8", "surrogateescape")
        action = dnf5_actions.find(text)
        if action is not None and (found is None or not action.is_whole):
            found = path, action
    return found


def _sorted(tree: int, directories: Sequence[str], suffix: str) -> list[str]:
    """Return the files of some directories in the order in which libdnf5 reads them.

    create_sorted_file_list() in libdnf5/utils/fs/utils.cpp.
    """
    found: dict[str, str] = {}
    for directory in directories:
        for name in files.list_in_tree(tree, directory) or []:
            path = f"{directory.rstrip('/')}/{name}"
            status = files.status_of(tree, path) if name.endswith(suffix) else None
            if status is not None and stat.S_ISREG(status.st_mode):
                found.setdefault(name, path)
    return [found[name] for name in sorted(found)]
