# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether transactions of a machine are protected: is the plugin there, and is it enabled."""

from __future__ import annotations

import configparser
import os

from . import files
from .host import Host

_LIBRARIES = ("usr/lib", "usr/lib64", "usr/local/lib")
_PACKAGES = ("site-packages", "dist-packages")
_CONFIG = "etc/dnf/plugins/fs-snapshot.conf"


def problems(host: Host) -> list[str]:
    """Return what keeps the plugin from working, a sentence each; nothing if it works."""
    if not _is_installed(host):
        return ["the dnf plugin fs-snapshot is not installed: transactions take no snapshot"]
    found = []
    if not _switch(host, _CONFIG, "enabled"):
        found.append(f"the dnf plugin fs-snapshot is switched off in /{_CONFIG}")
    if not _switch(host, "etc/dnf/dnf.conf", "plugins"):
        found.append("all dnf plugins are switched off in /etc/dnf/dnf.conf")
    if _dnf_is_dnf5(host):
        found.append("'dnf' is dnf 5 here, which does not load this plugin for dnf 4")
    return found


def _is_installed(host: Host) -> bool:
    for library in _LIBRARIES:
        for python in files.list_in_tree(host.root_fd, library) or []:
            for packages in _PACKAGES:
                path = f"{library}/{python}/{packages}/dnf-plugins/fs_snapshot.py"
                if python.startswith("python3") and files.device_of(host.root_fd, path) is not None:
                    return True
    return False


def _switch(host: Host, path: str, key: str) -> bool:
    """Return a boolean of the [main] section, true where nothing readable says otherwise."""
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string(files.read_in_tree(host.root_fd, path) or "")
        return parser.getboolean("main", key, fallback=True)
    except (configparser.Error, ValueError):
        return True


def _dnf_is_dnf5(host: Host) -> bool:
    try:
        target = os.readlink("usr/bin/dnf", dir_fd=host.root_fd)
    except OSError:
        return False
    return os.path.basename(target) == "dnf5"
