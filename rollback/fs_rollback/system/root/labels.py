# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether the files of a root have the labels that SELinux needs when it boots.

A root has its own policy and its own labels, and a snapshot has both of one time: they fit. They do
not where the snapshot was taken before its files were labelled, or where the kept paths come from
a root without SELinux.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress

from ..linux import chattr, files, syscalls
from ..machine.host import Host

# selinux-autorelabel.service, of policycoreutils, labels all files in a boot that finds it.
AUTORELABEL = ".autorelabel"
_CONFIG = "etc/selinux/config"
# What no boot does without. No policy has default_t for any of these: it is what
# restorecon(8) gives to all that is at no usual place, such as a root in the store.
_SAMPLE = ("", "etc", "etc/passwd", "usr", "usr/bin", "usr/lib/systemd/systemd")
_WRONG = re.compile(rb":(?:unlabeled|file|default)_t(?::|\0|$)")


def policy(tree: int) -> str:
    """Return the name of the policy that a root loads, "" where it has SELinux off, or not at all.

    Raises KernelError.
    """
    text = files.read_in_tree(tree, _CONFIG) or ""
    said = dict(re.findall(r"^\s*(SELINUX|SELINUXTYPE)=(\S+)", text, re.MULTILINE))
    is_on = said.get("SELINUX", "").lower() in ("enforcing", "permissive")
    return said.get("SELINUXTYPE", "targeted") if is_on else ""


def unlabeled(tree: int) -> str:
    """Return a path that has no label of use, of a root that loads a policy; "" where all is well.

    Where a boot labels all files anyway all is well too. Raises KernelError.
    """
    return _without_label(tree) if _trusted_policy(tree) else ""


def _trusted_policy(tree: int) -> str:
    """Return the policy that a root loads without labelling all files first, "" for none."""
    is_labelled_anyway = files.status_of(tree, AUTORELABEL, follow=False) is not None
    return "" if is_labelled_anyway else policy(tree)


def _without_label(tree: int) -> str:
    for path in _SAMPLE:
        label = _label(tree, path)
        if label is not None and (not label or _WRONG.search(label)):
            return f"/{path}"
    return ""


def _label(tree: int, path: str) -> bytes | None:
    """Return the label of a path, b"" if it has none; None where nothing is there, or can be."""
    with suppress(OSError):  # nothing at the path, or a filesystem without attributes
        descriptor = syscalls.open_in_root(tree, path or ".", os.O_PATH)
        try:
            place = f"/proc/self/fd/{descriptor}"
            has_one = chattr.LABEL in os.listxattr(place)
            return os.getxattr(place, chattr.LABEL) if has_one else b""
        finally:
            os.close(descriptor)
    return None


def why_relabel(host: Host, tree: int) -> str:
    """Return why a copy of a root, with what is kept of today's, needs labels; "" if it does not.

    Raises KernelError.
    """
    then = _trusted_policy(tree)
    if not then:
        return ""
    path = _without_label(tree)
    if path:
        return f"{path} has no usable label in the snapshot"
    is_off = host.is_running and not os.path.exists("/sys/fs/selinux/enforce")
    today = "" if is_off else policy(host.root_fd)
    if today != then:
        now = f"uses the policy {today}" if today else "is off"
        return f"SELinux {now} now, and uses the policy {then} in the snapshot"
    return ""
