# SPDX-License-Identifier: GPL-2.0-or-later
"""Gives a root that is the default subvolume its name, and /home and /boot subvolumes beside it.

While the root is found as the default subvolume no name matters, and at the end every line that
names it names this one. So a power cut between any two of these changes finds the same root, and
all of it may run again. What lies at the top level has these names until it is reclaimed.

/home is the old one until fstab(5) has a line for the new one, which is its commit.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import NamedTuple

from ...core.boot.layout import Layout
from ...core.formats.mountinfo import is_within
from ...core.loader.loader_path import LoaderPath
from ...core.snapshots.names import label
from ...core.snapshots.retention import protection
from ...core.snapshots.snapshot import STORE, Snapshot, Subvolume
from ...errors import Error, RefusedError, kernel_errors
from ...system.execute.trees import Operations
from ...system.linux import btrfs, chattr, durable, files, process, removal, syscalls
from ...system.linux.durable import write_file
from ...system.linux.process import Say
from ...system.loader import places
from ...system.machine import changed_since, kernels
from ...system.machine.changed_since import Reads
from ...system.machine.host import Host
from ...system.root import root_lines, roots_in_use
from ...system.snapshots import take_and_delete
from ...system.store.store import Store
from . import named_files
from . import names as finish_names
from .names import BOOT, HOME, NAMING_FILE, ROOT, Naming

_NEW = f"{STORE}/new_"
# The root as it is when /home is copied: copying from it leaves no times of access behind.
_FROZEN = _NEW + "frozen"
# What was only read since counts as touched, too, unless it was not changed for so long.
_CLOCK_MARGIN_S = 86400


class Wanted(NamedTuple):
    """What is to be done: whether /boot and /home become subvolumes of their own."""

    boot: bool
    home: bool


def has_begun(host: Host) -> bool:
    """Whether it was begun and not finished."""
    return os.path.lexists(host.path(NAMING_FILE))


def look(host: Host, layout: Layout) -> Wanted:
    """Return what is to be done."""
    return Wanted(_boot_is_read_from_top(host, layout), _home_is_in_root(host))


def _boot_is_read_from_top(host: Host, layout: Layout) -> bool:
    """Whether the loader reads a plain directory /boot at the top level."""
    found = places.find(host, layout)
    read = any(place.where == LoaderPath.from_top(BOOT) for place in found)
    return read and not btrfs.is_subvolume(host.path(BOOT))


def _home_is_in_root(host: Host) -> bool:
    points = {entry.point for entry in host.fstab_entries()}
    return _is_in_root(host, HOME) and f"/{HOME}" not in points


def _is_in_root(host: Host, name: str) -> bool:
    """Whether a directory of the root is on no filesystem or subvolume of its own."""
    status = files.status_of(host.root_fd, name, follow=False)
    return status is not None and status.st_dev == os.fstat(host.root_fd).st_dev


def refuse(host: Host, store: Store, layout: Layout, wanted: Wanted) -> None:
    """Raise RefusedError where something is in the way, with the way out."""
    for name in (ROOT, *((HOME,) if wanted.home else ())):
        taken = host.by_path(name)
        if taken is not None and taken.id != host.root_id and not _is_left_over(host, taken):
            raise RefusedError(
                f"there is already a subvolume {name}", hint="Rename it, then try again."
            )
    if layout.root.path != ROOT:
        _refuse_what_stays_at_the_top(host)
    for snapshot in _replaced_top_level(store):
        reason = protection(snapshot, roots_in_use.read(host))
        if reason:
            hint = f"Run 'fs-rollback unpin {snapshot.name}' first." if snapshot.pinned else ""
            raise RefusedError(
                f"the old root, {label(snapshot)}, cannot be deleted: {reason}", hint=hint
            )
    if wanted.home:
        _refuse_users_of_home(host)
    if _is_in_root(host, BOOT) and (wanted.boot or btrfs.is_subvolume(host.path(BOOT))):
        with files.opened(host.path("")) as top:
            missing = set(kernels.in_boot(host.root_fd)) - set(kernels.in_boot(top))
        if missing:
            raise RefusedError(
                "kernels were installed where the boot loader does not look:"
                f" {', '.join(sorted(missing))}",
                hint="Remove them now and install them again after this.",
            )


def _is_left_over(host: Host, taken: Subvolume) -> bool:
    """Whether it is a copy of /home that a run that was cut off made, and nobody has used."""
    made = _read(host)
    return (
        taken.path == HOME
        and taken.id == made.home_id
        and not changed_since.is_touched(host, HOME, made.home_generation)
    )


def _refuse_what_stays_at_the_top(host: Host) -> None:
    """Raise RefusedError where subvolumes keep the old root from giving its names free."""
    for name in (ROOT, HOME):
        inside = [s.path for s in host.subvolumes if s.path.startswith(f"{name}/")]
        if inside and not btrfs.is_subvolume(host.path(name)):
            raise RefusedError(
                f"the old root at the top level cannot be deleted: /{inside[0]} in it is a"
                " subvolume",
                hint="It was carried over to the new root. Mount the top level (subvolid=5), and"
                " delete or move the old one.",
            )


def _replaced_top_level(store: Store) -> list[Snapshot]:
    return [s for s in store.load() if s.is_replaced and s.is_top_level]


def _refuse_users_of_home(host: Host) -> None:
    """Raise RefusedError while a process has something in /home: it would write to the old one."""
    if not host.is_running:
        return
    for number in (name for name in os.listdir("/proc") if name.isdigit()):
        for link in _links(number):
            if is_within(link, "/home") and link != "/home":
                raise RefusedError(
                    f"process {number} ({process.name_of(number)}) has {link} open",
                    hint="Log out all users, and run this as root on a console.",
                )


# It has ended; or it is outside of a container that this runs in, whose /home is another: root is
# shown all others.
_NOT_SHOWN = (FileNotFoundError, ProcessLookupError, PermissionError)


def _links(number: str) -> Iterator[str]:
    """Give what a process has open, nothing where it has ended. Raises KernelError."""
    directory = f"/proc/{number}"
    names = ["cwd", "root", "exe"]
    with kernel_errors("look at the open files of", directory):
        try:
            names += [f"fd/{name}" for name in os.listdir(f"{directory}/fd")]
        except _NOT_SHOWN:
            return  # see there
        for name in names:
            try:
                yield os.readlink(f"{directory}/{name}")
            except _NOT_SHOWN:
                continue  # closed by now, or never there: a thread of the kernel's has no program


def give_names(host: Host, store: Store, layout: Layout, wanted: Wanted, say: Say) -> None:
    """Do it. Raises Error; the machine boots as before then, and it may be done again."""
    operations = Operations(host)
    if not has_begun(host):
        _write(host, Naming())
    if wanted.boot:
        say("making /boot a subvolume")
        _make_boot(host, operations)
    _remove_plain(host, _NEW + BOOT)  # what the exchange has left
    _mount(host, BOOT)
    say("reclaiming the old root at the top level")
    _reclaim(host, store)
    if layout.root.path != ROOT:
        operations.rename(layout.root.path, ROOT)
        host.forget()
    if wanted.home:
        say("making /home a subvolume")
        _make_home(host, operations)
    others = [name for name in (HOME, BOOT) if btrfs.is_subvolume(host.path(name))]
    named_files.write(host, others)
    operations.sync()
    if btrfs.is_subvolume(host.path(HOME)):
        _empty_old_home(host, operations)
    operations.sync()
    with files.opened(os.path.dirname(host.path(NAMING_FILE))) as directory:
        durable.remove_durably(directory, os.path.basename(NAMING_FILE))
    host.forget()


def _read(host: Host) -> Naming:
    with files.opened(host.top) as top:
        return finish_names.parse(files.read_in_tree(top, NAMING_FILE) or "")


def _write(host: Host, state: Naming) -> None:
    write_file(host.path(NAMING_FILE), finish_names.dump(state), 0o600)


def _make_boot(host: Host, operations: Operations) -> None:
    """Replace the directory that the loader reads by a subvolume with the same in it, at once."""
    new = _NEW + BOOT
    _make_subvolume(host, operations, new, like=BOOT)
    _copy(host.path(BOOT), host.path(new))
    operations.sync()
    operations.exchange(BOOT, new)
    operations.sync()


def _make_home(host: Host, operations: Operations) -> None:
    """Make a subvolume of what /home is now, with what is nested in it.

    Raises Error if somebody writes there meanwhile.
    """
    new = _NEW + HOME
    operations.delete(HOME)  # one that is left over, see refuse()
    operations.delete(_FROZEN)
    operations.sync()
    host.forget()
    with kernel_errors("read the generation of", host.mount.source):
        before = syscalls.filesystem_generation(host.top_fd)
    after_s = time.time() - _CLOCK_MARGIN_S
    operations.snapshot(ROOT, _FROZEN, read_only=True)
    _make_subvolume(host, operations, new, like=f"{_FROZEN}/{HOME}")
    _copy(host.path(f"{_FROZEN}/{HOME}"), host.path(new))
    nested = _carry(host, operations, new)
    operations.sync()
    is_touched = changed_since.touched(host, ROOT, before, [HOME], Reads(_FROZEN, after_s))
    copies = {path: f"{new}{path[len(ROOT) + len(HOME) + 1 :]}" for path in nested}
    operations.delete(_FROZEN)
    if is_touched or any(
        changed_since.is_touched(host, path, before, Reads(copy, after_s))
        for path, copy in copies.items()
    ):
        operations.delete(new)
        raise Error(
            "something was written to /home while it was being copied",
            hint="Log out all users, then try again: the machine boots as before.",
        )
    with kernel_errors("read the generation of", host.mount.source):
        whole = syscalls.filesystem_generation(host.top_fd)
    _write(host, Naming(btrfs.subvolume_id(host.path(new)), whole))
    operations.rename(new, HOME)
    host.forget()
    _mount(host, HOME)


def _carry(host: Host, operations: Operations, new: str) -> list[str]:
    """Snapshot what is nested in /home to the same places in the copy; returns what it was."""
    home = f"{ROOT}/{HOME}"
    found = sorted(s.path for s in host.subvolumes if s.path.startswith(f"{home}/"))
    for path in found:
        place = path[len(home) + 1 :]
        operations.make_room(home, new, place)
        operations.snapshot(path, f"{new}/{place}", read_only=False)
        above = os.path.dirname(place)
        with kernel_errors("copy the times of", f"/{HOME}/{above}"):
            status = os.lstat(host.path(f"{home}/{above}"))
            times = (status.st_atime_ns, status.st_mtime_ns)
            os.utime(host.path(f"{new}/{above}"), ns=times, follow_symlinks=False)
    for subvolume in host.subvolumes:
        if subvolume.path in found and subvolume.read_only:
            inside = subvolume.path[len(home) :]
            operations.set_read_only(new + inside, read_only=True)
    return found


def _empty_old_home(host: Host, operations: Operations) -> None:
    """Remove what lies under the new /home, where nobody sees it and nothing frees its space.

    A subvolume that is in use stays, and the directories that lead to it.
    """
    path = f"{ROOT}/{HOME}"
    if not _is_plain(host, path) or os.path.islink(host.path(path)):
        return
    host.forget()
    used = host.mounted_ids | {host.default_id} | root_lines.mounted_by_id(host)
    named = root_lines.mounted_elsewhere(host)
    nested = [s for s in host.subvolumes if s.path.startswith(f"{path}/")]
    if not any(s.id in used or s.path in named for s in nested):
        for subvolume in nested:
            operations.set_read_only(subvolume.path, read_only=False)
        for subvolume in nested:
            operations.delete(subvolume.path)
    with kernel_errors("empty", f"/{HOME} of the root"):
        names = os.listdir(host.path(path))
    for name in names:
        removal.remove(host.path(f"{path}/{name}"))


def _make_subvolume(host: Host, operations: Operations, path: str, *, like: str) -> None:
    """Make an empty subvolume with the mode and owner of a directory."""
    operations.delete(path)
    _remove_plain(host, path)
    btrfs.create_subvolume(host.path(path))
    with kernel_errors("make", f"/{path}"):
        status = os.stat(host.path(like))
        os.chown(host.path(path), status.st_uid, status.st_gid)
        os.chmod(host.path(path), status.st_mode & 0o7777)
        for name, value in chattr.extended(host.path(like)).items():
            os.setxattr(host.path(path), name, value)


def _remove_plain(host: Host, path: str) -> None:
    if _is_plain(host, path):
        with kernel_errors("remove", f"/{path}"):
            removal.remove(host.path(path))


def _copy(source: str, target: str) -> None:
    """Copy what is in a directory with all that cp(1) can keep, sharing the data."""
    descriptors = [int(path.split("/")[4]) for path in (source, target)]
    process.run(
        ("cp", "--archive", "--reflink=auto", "--no-target-directory", f"{source}/.", target),
        pass_fds=descriptors,
    )


def _mount(host: Host, name: str) -> None:
    """Mount a new subvolume at its place at once: what runs goes on with the same files."""
    is_made = btrfs.is_subvolume(host.path(name))
    if not host.is_running or not is_made or not _is_in_root(host, name):
        return
    with files.opened(os.path.join(host.root, name)) as place, kernel_errors("mount", f"/{name}"):
        subvolume = btrfs.subvolume_id(host.path(name))
        syscalls.mount_subvolume(host.mount.source, subvolume, place, read_only=False)


def _reclaim(host: Host, store: Store) -> None:
    for snapshot in _replaced_top_level(store):
        in_use = roots_in_use.read(host)
        take_and_delete.delete(host, store, snapshot, in_use, "the root has left the top level")
    host.forget()
    left = [name for name in (ROOT, HOME) if _is_plain(host, name)]
    if left:
        raise Error(
            f"/{left[0]} at the top level is still there",
            hint="Subvolumes in it prevent its deletion; move them, then try again.",
        )


def _is_plain(host: Host, name: str) -> bool:
    return os.path.lexists(host.path(name)) and not btrfs.is_subvolume(host.path(name))
