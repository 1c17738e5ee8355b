# SPDX-License-Identifier: GPL-2.0-or-later
"""What of a machine's files names ext4 where the root will be btrfs, and how it reads then.

Of the mount options those stay that are of no filesystem (noatime, nofail, x-systemd...), and those
that btrfs takes with the same meaning (discard, commit=...).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ...core.formats import cmdline, fstab
from ...core.formats.bls import BootEntry
from ...core.loader.menu_names import snapshot_entry_prefix

FSTYPE = "ext4"
DRACUT_CONF = "etc/dracut.conf.d/90-fs-rollback.conf"
INITRAMFS_TOOLS_HOOK = "etc/initramfs-tools/hooks/fs-rollback"

# mount(8), FILESYSTEM-INDEPENDENT MOUNT OPTIONS; those of systemd.mount(5) begin with x-. Without
# iversion, which a newer mount(8) hands on to btrfs, and btrfs does always and under no name.
_OF_ANY = frozenset((
    "async", "atime", "noatime", "auto", "noauto", "comment", "defaults", "dev", "nodev",
    "diratime", "nodiratime", "dirsync", "exec", "noexec", "group", "nogroup", "lazytime",
    "nolazytime", "loud", "mand", "nomand", "_netdev", "nofail", "owner", "noowner", "relatime",
    "norelatime", "ro", "rw", "silent", "strictatime", "nostrictatime", "suid", "nosuid",
    "symfollow", "nosymfollow", "sync", "user", "nouser", "users", "nousers",
))  # fmt: skip
_OF_ANY_WITH_VALUE = ("context=", "fscontext=", "defcontext=", "rootcontext=", "comment=", "user=")
_OF_USER_SPACE = ("x-", "X-")
# btrfs(5) of Linux 5.14 and later.
_OF_BTRFS_TOO = frozenset(("acl", "noacl", "discard", "nodiscard"))
_OF_BTRFS_TOO_WITH_VALUE = ("commit=",)
_KEPT = _OF_ANY | _OF_BTRFS_TOO
_KEPT_BEGINNINGS = (*_OF_ANY_WITH_VALUE, *_OF_USER_SPACE, *_OF_BTRFS_TOO_WITH_VALUE)
_ROOT_WORD = re.compile(r"""\broot(?:fstype|flags)=[^\s"'\\]+""")
# mount(8): a comma in quotation marks ends no option.
_OPTION = re.compile(r'(?:[^,"]|"[^"]*"?)+')
_LINE = re.compile(r"([ \t]*[^ \t]+[ \t]+[^ \t]+)([ \t]+)([^ \t\r]+)(?:([ \t]+)([^ \t\r]+))?(.*)")
_PASS = re.compile(r"([ \t]+[^ \t\r]+[ \t]+)([^ \t\r]+)(.*)", re.DOTALL)
_DRACUT = """\
# Written by fs-rollback for the conversion of the root from ext4 to btrfs: without it an initramfs
# that is made while the root is still ext4 has no btrfs. The module of that name loads the driver
# before udev sees a device: without the driver a btrfs is not ready, and the boot waits for it.
add_dracutmodules+=" btrfs "
add_drivers+=" btrfs "
filesystems+=" btrfs ext4 "
"""
_HOOK = """\
#!/bin/sh
# Written by fs-rollback for the conversion of the root from ext4 to btrfs.
[ "$1" != prereqs ] || exit 0
. /usr/share/initramfs-tools/hook-functions
manual_add_modules btrfs ext4
"""


def _without_options(options: str) -> str:
    """Return those mount options of an ext4 that mean the same to a btrfs.

    All others go: ext4 takes some that no manual names any more, and with one of them there is no
    root.
    """
    found = _OPTION.findall(options)
    kept = [o for o in found if o in _KEPT or o.startswith(_KEPT_BEGINNINGS)]
    return options if kept == found else ",".join(kept)


def btrfs_fstab(text: str) -> str:
    """Return an fstab(5) whose root is btrfs: type, options and pass of that line change.

    Every other byte stays. Raises ValueError where there is no line for the root, or none that can
    be changed.
    """
    root = fstab.root_entry(fstab.parse(text))
    if root is None:
        raise ValueError("it has no line for /")
    lines = text.split("\n")
    match = _LINE.fullmatch(lines[root.line - 1].rstrip("\r"))
    if match is None:
        raise ValueError(f"its line {root.line} cannot be read: {root.text}")
    end = "\r" if lines[root.line - 1].endswith("\r") else ""
    head, gap, _, before, options, rest = match.groups()
    if options is not None:
        options = _without_options(options) or "defaults"
        numbers = _PASS.fullmatch(rest)
        if numbers is not None:
            rest = numbers.group(1) + "0" + numbers.group(3)
    lines[root.line - 1] = head + gap + "btrfs" + (before or "") + (options or "") + rest + end
    return "\n".join(lines)


def without_ext4(options: str) -> str:
    """Return a kernel command line that starts a root of either kind, ext4 or btrfs.

    `rootfstype=ext4` goes, and what of `rootflags=` only ext4 knows. All else stays byte for byte.
    """
    for word in reversed(list(re.finditer(cmdline.WORD, options))):
        plain = word.group().replace('"', "")
        new = _without_ext4(plain)
        if new == plain:
            continue
        tail = options[word.end() :]
        if not new:
            tail = tail.lstrip(" \t") if tail.strip() else tail
        options = options[: word.start()] + new + tail
    return options


def ext4_words(options: str) -> list[str]:
    """Return the words of a kernel command line that have something that only ext4 knows."""
    return [word for word in cmdline.words(options) if _without_ext4(word) != word]


def _without_ext4(word: str) -> str:
    key, separator, value = word.partition("=")
    if key == "rootfstype" and separator:
        kept = [kind for kind in value.split(",") if kind != FSTYPE]
        return f"rootfstype={','.join(kept)}" if kept and kept != [""] else ""
    if key == "rootflags" and separator:
        flags = _without_options(value)
        return f"rootflags={flags}" if flags or not value else ""
    return word


def for_conversion(options: str) -> str:
    """Return the command line of the boot that converts: nothing else may look into the root.

    fsck.mode=skip: systemd-fsck-root(8) would run beside the conversion.
    """
    words = [
        w for w in cmdline.words(without_ext4(options)) if w not in ("quiet", "rhgb", "splash")
    ]
    kept = [w for w in words if not w.startswith(("fsck.", "resume=", "rd.shell", "rd.emergency"))]
    return " ".join([*(f'"{w}"' if " " in w else w for w in kept), "fsck.mode=skip"])


def default_grub(text: str) -> str:
    """Return /etc/default/grub without what only ext4 knows; every other byte stays."""

    def changed(match: re.Match[str]) -> str:
        return match.group(1) + match.group(2) + without_ext4(match.group(3)) + match.group(2)

    pattern = r"""^(\s*(?:export\s+)?GRUB_CMDLINE_LINUX\w*\+?=)(["'])(.*?)\2"""
    return re.sub(pattern, changed, text, flags=re.MULTILINE)


def words_left(text: str) -> list[str]:
    """Return what only ext4 knows in a file of a shell or of words, wherever it stands in it."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    return [word for word in _ROOT_WORD.findall("\n".join(lines)) if _without_ext4(word) != word]


def dracut_conf() -> str:
    """Return the dracut.conf(5) that puts btrfs into each new initramfs, and keeps ext4."""
    return _DRACUT


def initramfs_tools_hook() -> str:
    """Return the hook of initramfs-tools(7) that does the same."""
    return _HOOK


def conversion_entry(entries: Sequence[BootEntry]) -> str:
    """Return the file name of the entry that converts a root: last in a menu, like a snapshot's."""
    prefix = snapshot_entry_prefix(entries)
    return prefix.replace("fs-snapshot-", "fs-convert") + ".conf"
