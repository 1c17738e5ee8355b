# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks what decides the next boot: entry, kernel, command line, root, init, fstab."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, Optional

from ...core.boot import findings, judge
from ...core.boot.entries import Bootable
from ...core.boot.findings import Finding
from ...core.boot.layout import Kind, Layout, Statement, root_of
from ...core.formats import cmdline, fstab
from ...core.snapshots.snapshot import Subvolume
from ...errors import Error, RefusedError, kernel_errors
from ..linux import files, syscalls
from ..loader import entries as loader_entries
from ..loader.entries import Boot
from ..machine import kernels
from ..machine.host import Host
from ..root import fstab_facts, labels, root_lines

_X86 = ("x86_64", "i386", "i486", "i586", "i686")
_INITS = ("usr/lib/systemd/systemd", "sbin/init")


class Walk(NamedTuple):
    """What the checks read: how the root is found, what the loader reads, the root that boots.

    `refusal` is why no rollback is possible here. `default` is the default entry, None if that is
    unknown or belongs to another system. `said` is what it says about the root, None if that is
    unknown or on another filesystem. `tree` is the open root of the next boot; `is_mounted` tells
    whether everything that it mounts is visible in it.
    """

    host: Host
    layout: Layout
    refusal: Optional[RefusedError]
    found: Boot
    default: Optional[Bootable]
    said: Optional[Statement]
    root: Subvolume
    tree: int
    is_mounted: bool


def links(host: Host) -> tuple[Finding, ...]:
    """Return the links that decide the next boot of a machine. Raises KernelError."""
    with opened(host) as walk:
        return deciding(walk)


@contextmanager
def opened(host: Host) -> Iterator[Walk]:
    """Read what the checks need. Raises KernelError, never RefusedError."""
    layout, refusal = _layout(host)
    found = loader_entries.read(host, layout)
    default = found.default
    # Guarded, the default is the way back, and the next boot a copy of the usual entry.
    if found.once is not None and found.once.is_guarded:
        default = found.once
    own = default if default is not None and not default.foreign else None
    said = own.said if own is not None and own.ours else None
    silent_id = host.default_id if refusal else layout.root.id
    root = root_of(said, host.subvolumes, silent_id) if said else None
    root = root or layout.root
    is_mounted = root.id == host.root_id
    with files.opened(host.root if is_mounted else host.path(root.path)) as tree:
        yield Walk(host, layout, refusal, found, own, said, root, tree, is_mounted)


def _layout(host: Host) -> tuple[Layout, Optional[RefusedError]]:
    """Return how the root is found; where lines disagree, the present root and the refusal."""
    try:
        return root_lines.read_next_layout(host), None
    except RefusedError as error:  # as promised: returned
        root = host.root_subvolume
        return Layout(Kind.NAMED if root.path else Kind.DEFAULT, root, ()), error


def deciding(walk: Walk) -> tuple[Finding, ...]:
    """Return the findings of judge.DECIDING, in the order of a boot. Raises KernelError."""
    found: list[Finding] = []
    default = walk.default
    if default is None:
        found.append(_no_default(walk))
    else:
        file = default.entry.file
        found.append(findings.ok("default-entry.ok", file, f"{file}: {default.entry.title}"))
        found += _images(walk, default)
        found.append(_command_line(walk, default))
    root = _root(walk)
    found.append(root)
    if root.grade is findings.Grade.FATAL:
        return tuple(found)
    found.append(_init(walk, default))
    if default is not None:
        found.append(_modules(walk, default))
    return (*found, *_fstab(walk))


def labels_of(walk: Walk) -> Iterator[Finding]:
    """Tell of a root that SELinux would keep from starting services. Raises KernelError."""
    path = labels.unlabeled(walk.tree)
    if path:
        yield findings.warning(
            "selinux.unlabeled",
            path,
            f"{path} has no label that SELinux can use; other files may have none either",
            "'touch /.autorelabel' and reboot, with enforcing=0 on the kernel command line: that"
            " boot labels all files, then reboots.",
        )


def _no_default(walk: Walk) -> Finding:
    other = walk.found.default
    if other is not None:
        return findings.warning(
            "default-entry.other-system",
            other.entry.file,
            f"the default entry belongs to another system: {other.entry.file}",
            "Expected if you want to boot that system; the checks below are about the root here."
            " To boot it, choose its entry in the boot menu.",
        )
    if walk.found.bootables:
        text = "the default boot entry cannot be determined"
        return findings.warning(
            "default-entry.unknown",
            "",
            text,
            "At the next boot, choose the entry of this root in the boot menu.",
        )
    return findings.warning(
        "default-entry.no-entries",
        "",
        "no boot entries found: the kernel that will boot is unknown",
        "Make sure that the boot loader starts a kernel that the root has modules for.",
    )


def _images(walk: Walk, default: Bootable) -> Iterator[Finding]:
    place = walk.found.place_of(default)
    entry = default.entry
    if not entry.linux.startswith("/"):
        yield findings.warning(
            "kernel.unknown",
            "",
            f"the kernel image of the entry cannot be checked: {entry.file}",
            "fs-rollback does not read unified kernel images or the files of other boot loaders.",
        )
    else:
        head = _head(place.base, entry.linux)
        yield judge.kernel_image(entry.linux, head, x86=os.uname().machine in _X86)
    initrds = [path for path in entry.files if path != entry.linux]
    absent = [path for path in initrds if path in default.missing]
    for path in absent:
        yield findings.fatal(
            "initramfs.missing",
            _subject(path),
            f"a file of the default entry is missing or empty: {path}",
            f"Rebuild it: dracut --force --kver {default.kernel or 'VERSION'}.",
        )
    if not initrds:
        yield findings.warning(
            "initramfs.none",
            "",
            f"the default entry names no initramfs: {entry.file}",
            "This works only if the kernel mounts the root by itself; otherwise run: dracut"
            " --force.",
        )
    elif not absent:
        yield findings.ok("initramfs.ok", "", " ".join(initrds))


def _subject(path: str) -> str:
    """Return a path of an entry without that of the root before /boot: a rollback may change it."""
    _, boot, inside = path.rpartition("/boot/")
    return boot + inside


def _head(base: str, path: str) -> Optional[bytes]:
    """Return the first bytes of a file that a boot loader reads, None if there is none.

    `base` is where the loader's paths begin; no symbolic link leads out of it.
    """
    with files.opened(base) as tree, kernel_errors("read", path):
        try:
            descriptor = syscalls.open_in_root(tree, path, os.O_RDONLY | os.O_NONBLOCK)
        except (FileNotFoundError, NotADirectoryError):  # as promised
            return None
        with os.fdopen(descriptor, "rb") as file:
            is_file = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
            return file.read(judge.HEAD_BYTES) if is_file else None


def _command_line(walk: Walk, default: Bootable) -> Finding:
    entry, said = default.entry, walk.said
    arguments = cmdline.root_arguments(entry.arguments)
    spec = arguments.root
    if said is not None:
        silent_id = walk.host.default_id if walk.refusal else walk.layout.root.id
        root = root_of(said, walk.host.subvolumes, silent_id)
        return judge.command_line(said, root, arguments)
    if not spec:
        return findings.warning(
            "command-line.no-root",
            "",
            f"it has no root=, or only in variables of the boot loader: {entry.file}",
            "Check the options in the boot menu, or write root= into the entry.",
        )
    cure = f"Correct root= in {entry.file}; 'lsblk --fs' lists all devices."
    if fstab_facts.has_device(walk.host, spec) is False:
        return findings.fatal(
            "command-line.device", spec, f"the device of the root does not exist: {spec}", cure
        )
    if walk.host.identity.is_meant(spec) is None:
        return findings.warning(
            "command-line.unknown",
            spec,
            f"cannot tell from here whether it boots this filesystem: root={spec}",
            "Run 'fs-rollback check' on the running machine.",
        )
    return findings.warning(
        "command-line.other-filesystem", spec, f"it boots another filesystem: root={spec}", cure
    )


def _root(walk: Walk) -> Finding:
    root = walk.root
    place = f"/{root.path}" if root.path else "the top level"
    back = "'fs-rollback list' shows the snapshots to roll back to."
    if root.read_only:
        return findings.fatal(
            "root.read-only",
            "",
            f"the root subvolume is read-only: {place} (ID {root.id})",
            f"Mount the top level and run 'btrfs property set {place} ro false' there, or roll"
            " back.",
        )
    for name in ("usr", "etc"):
        if files.list_in_tree(walk.tree, name) is None:
            return findings.fatal(
                "root.no-system",
                f"/{name}",
                f"the root contains no system, /{name} is missing: {place}",
                back,
            )
    runs = walk.host.is_running and root.id == walk.host.root_id
    which = "the running root" if runs else "the root of the next boot"
    return findings.ok("root.ok", "", f"{place} (ID {root.id}), {which}")


def _init(walk: Walk, default: Optional[Bootable]) -> Finding:
    options = cmdline.words(default.entry.arguments) if default is not None else []
    given = [word[5:].lstrip("/") for word in options if word.startswith("init=")]
    paths = given[-1:] or _INITS
    for path in paths:
        status = files.status_of(walk.tree, path)
        if status and stat.S_ISREG(status.st_mode) and status.st_mode & 0o111 and status.st_size:
            return findings.ok("init.ok", "", f"/{path}")
    said = " or ".join("/" + path for path in paths)
    if _is_elsewhere(walk, "/usr"):
        return findings.warning(
            "init.unknown",
            "",
            f"cannot look for {said}: /usr is not mounted here",
            _MOUNT_IT,
        )
    return findings.fatal(
        "init.missing",
        "",
        f"the root has no init program: {said} is missing or not executable",
        "Reinstall systemd, or roll back: 'fs-rollback list'.",
    )


def _modules(walk: Walk, default: Bootable) -> Finding:
    kernel = default.kernel
    if not kernel:
        return findings.warning(
            "modules.unknown-kernel",
            "",
            f"the kernel that the default entry starts is unknown: {default.entry.file}",
            "Make a normal entry the default, not a rescue entry.",
        )
    directory = f"usr/lib/modules/{kernel}"
    if files.list_in_tree(walk.tree, directory) is None:
        if _is_elsewhere(walk, "/usr"):
            text = f"cannot look for /{directory}: /usr is not mounted here"
            return findings.warning("modules.unknown", kernel, text, _MOUNT_IT)
        return findings.fatal(
            "modules.missing",
            kernel,
            f"the root has no modules for the kernel of the default entry: {kernel}",
            "Choose another entry in the boot menu and make it the default, or reinstall that"
            " kernel.",
        )
    if files.status_of(walk.tree, f"{directory}/modules.dep") is None:
        return findings.warning(
            "modules.no-index",
            kernel,
            f"the kernel cannot find its modules: /{directory}/modules.dep is missing",
            f"depmod {kernel}",
        )
    if kernels.lacks_btrfs(walk.tree, kernel):
        return findings.fatal(
            "modules.no-btrfs",
            kernel,
            f"the kernel of the default entry has no btrfs driver, but the root is btrfs: {kernel}",
            "Choose another entry in the boot menu and make it the default.",
        )
    return findings.ok("modules.ok", kernel, f"/{directory}")


_MOUNT_IT = "Mount it in the root and check again."


def _is_elsewhere(walk: Walk, point: str) -> bool:
    """Whether fstab mounts something at a place of the tree that is not mounted there now."""
    if not any(e.point == point for e in walk.host.fstab_entries(walk.tree)):
        return False
    return files.device_of(walk.tree, point) in (None, os.fstat(walk.tree).st_dev)


def _fstab(walk: Walk) -> Iterator[Finding]:
    entries = walk.host.fstab_entries(walk.tree)
    odd = judge.fstab_root(fstab.root_entry(entries))
    if odd is not None:
        yield odd
    for entry in entries:
        try:
            facts = fstab_facts.look(walk.host, walk.tree, entry)
        except Error as error:  # said as a finding
            text = f"an entry cannot be checked: {error}"
            yield findings.warning("fstab.unknown", judge.subject(entry), text, error.hint)
            continue
        if facts is not None:
            yield judge.fstab_entry(entry, facts)
