# SPDX-License-Identifier: GPL-2.0-or-later
"""Which files are not user data: those that the system writes for itself."""

from __future__ import annotations

import re

from ..formats.mountinfo import is_within_any

# What packages bring, go back with, or make again: no loss to anybody.
_OF_SYSTEM = frozenset(
    (
        *("/boot", "/efi", "/usr", "/run", "/tmp"),  # noqa: S108 - in a tree
        *("/var/cache", "/var/tmp", "/var/lock", "/var/run"),  # noqa: S108 - as above
    )
)
# Below /var/lib: the state of package managers, of systemd and of what every Fedora or EL has.
_UPKEEP = frozenset(
    (
        *(
            "AccountsService",
            "NetworkManager",
            "PackageKit",
            "alternatives",
            "authselect",
            "chrony",
        ),
        *(
            "chrony",
            "color",
            "dbus",
            "dhclient",
            "dkms",
            "dnf",
            "fs-rollback",
            "fwupd",
            "gdm",
            "geoclue",
        ),
        *("initramfs", "iscsi", "kdump", "logrotate", "mlocate", "nfs", "os-prober", "plocate"),
        *("plymouth", "polkit-1", "portables", "private", "rhsm", "rpm", "rpm-state", "rsyslog"),
        *("selinux", "setroubleshoot", "sss", "sudo", "systemd", "tpm2-tss", "tuned", "udisks2"),
        *("unbound", "upower", "vnstat", "xkb", "yum"),
    )
)
# What scripts of packages and programs of the system write from something else.
_GENERATED = re.compile(
    r"/etc/(?:\.updated|\.pwd\.lock|ld\.so\.cache|mtab|adjtime|resolv\.conf|machine-id"
    r"|(?:passwd|group|shadow|gshadow|subuid|subgid)-|alternatives/.*|udev/hwdb\.bin"
    r"|pki/(?:ca-trust/extracted|java)/.*|selinux/[^/]+/(?:active|policy|contexts)/.*"
    r"|.*\.(?:rpmnew|rpmsave|rpmorig))|/usr/share/info/dir",
    re.DOTALL,
)
# How `restore` calls what it has kept: the name, and this with the time.
BEFORE_RESTORE = ".before-restore-"
_KEPT_BY_RESTORE = re.compile(rf".*{re.escape(BEFORE_RESTORE)}\d{{14}}(?:/.*)?", re.DOTALL)


def is_kept_by_restore(path: str) -> bool:
    """Whether `restore` has kept this, or the directory that it is in, beside what it restored."""
    return _KEPT_BY_RESTORE.fullmatch(path) is not None


def is_of_system(path: str) -> bool:
    """Whether a file is not user data: packages bring it, or the system makes it again."""
    if path.startswith("/usr/local/"):
        return False
    names = path.split("/")
    return is_within_any(path, _OF_SYSTEM) or (
        path.startswith("/var/lib/") and len(names) > 3 and names[3] in _UPKEEP
    )


def is_generated(path: str) -> bool:
    """Whether a file is written by programs, so that a change in it is nobody's edit."""
    return _GENERATED.fullmatch(path) is not None
