# SPDX-License-Identifier: GPL-2.0-or-later
"""Copies of the kernels that a snapshot needs but does not contain, in fs-snapshots/boot.

A /boot of its own does not go back with the root. What its entries start is kept by content: each
file once, named by its SHA-256, and beside it one list for each state of /boot that a record names.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress

from ...core.snapshots import saved_files
from ...core.snapshots.saved_files import SavedBoot, SavedFile
from ...core.snapshots.snapshot import STORE, Snapshot
from ...errors import KernelError, RefusedError, StoreError, kernel_errors
from ..execute import roots
from ..linux import btrfs, durable, files
from ..loader import entries as loader_entries
from ..loader import places
from ..loader.entries import Boot
from ..machine import kernels
from ..machine.host import Host
from ..root import root_lines
from ..store.store import Store

DIRECTORY = "boot"
PLACE = f"{STORE}/{DIRECTORY}"
_LIST_SUFFIX = ".json"
# Only what has a name of our own shape is ours to remove.
_OURS = re.compile(rf"[0-9a-f]{{64}}(?:\.json)?(?:{re.escape(durable.TEMPORARY)})?")


def save_outside(host: Host, store: Store) -> str:
    """As `save`, after a cheap look whether anything a boot loader reads is outside the root."""
    root = os.fstat(host.root_fd).st_dev
    devices = {files.device_of(host.root_fd, point) for point in places.POINTS}
    if devices <= {None, root} and not _is_found_by_default(host):
        return ""
    try:
        layout = root_lines.read_layout(host)
    except RefusedError:
        return ""  # no rollback is possible as things are; `check` says why
    return save(host, store, loader_entries.read(host, layout))


def _is_found_by_default(host: Host) -> bool:
    """Whether the root is a top level, or one that replaced it: /boot stays behind there."""
    return btrfs.subvolume_path(host.root).partition("/")[0] in ("", STORE)


def save(host: Host, store: Store, found: Boot) -> str:
    """Save what the entries that fit the running root start; return the name of the list.

    "" where everything goes back with the root. A file that was saved before and has not
    changed since is not read again. Needs the lock. Raises KernelError.
    """
    if not found.staying:
        return ""
    wanted = _wanted(host, found)
    default = found.default
    if not wanted and default is None:
        return ""
    import hashlib

    from ..store import trace

    with _directory(store) as directory:
        known = {(f.where, f.size_bytes, f.mtime_ns): f for f in _newest_list(store, directory)}
        rows = [_saved(host, directory, known, kernel, where) for kernel, where in wanted]
        text = saved_files.dump(SavedBoot(default.entry.id if default else "", tuple(rows)))
        name = hashlib.sha256(text.encode()).hexdigest()
        if files.inode_of(directory, name + _LIST_SUFFIX) is None:
            durable.write_text(directory, name + _LIST_SUFFIX, text)
            kept = ", ".join(dict.fromkeys(row.kernel for row in rows))
            trace.tell(host, trace.Event("kernels-saved", reason=kept))
    return name


def read(store: Store, name: str) -> SavedBoot:
    """Return a list of saved files. Raises BootFilesError or KernelError if it cannot be read."""
    text = files.read_in_tree(store.directory, f"{DIRECTORY}/{name}{_LIST_SUFFIX}")
    if text is None:
        raise saved_files.BootFilesError("it is missing")
    return saved_files.parse(text)


def ever_saved(host: Host) -> set[str]:
    """Return where the files were that the lists name, as far as these can be read."""
    found: set[str] = set()
    if not os.path.lexists(host.path(PLACE)):
        return found
    with roots.opened(host, PLACE) as directory:
        for name in files.list_in_tree(directory, ".") or []:
            text = files.read_in_tree(directory, name) if name.endswith(_LIST_SUFFIX) else None
            with suppress(saved_files.BootFilesError):  # what it names is not removed
                found |= {file.where for file in saved_files.parse(text or "").files}
    return found


def is_whole(host: Host, where: str) -> bool:
    """Whether a saved file, as a plan names it, still has the content that is its name."""
    return _digest(places.path_of(host, where)) == os.path.basename(where)


def collect(store: Store, snapshots: Sequence[Snapshot]) -> None:
    """Remove what no snapshot needs any more. Needs the lock. Raises KernelError.

    Where a record or a list cannot be read everything stays: unknown is not unneeded.
    """
    if any(snapshot.incomplete for snapshot in snapshots):
        return
    names = files.list_in_tree(store.directory, DIRECTORY)
    if not names:
        return
    lists = {s.record.boot_files for s in snapshots if s.record and s.record.boot_files}
    needed = {name + _LIST_SUFFIX for name in lists}
    try:
        for name in lists:
            needed |= {file.sha256 for file in read(store, name).files}
    except saved_files.BootFilesError:  # as promised, everything stays
        return
    doomed = [name for name in names if name not in needed and _OURS.fullmatch(name)]
    with _directory(store) as directory:
        for name in doomed:
            durable.remove_durably(directory, name)
    if doomed:
        from ..store import trace

        why = f"{len(doomed)} files that no snapshot needs any more"
        trace.tell(store.host, trace.Event("kernels-removed", reason=why))
    with suppress(OSError):  # not empty: something is needed
        os.rmdir(store.host.path(PLACE))


def _wanted(host: Host, found: Boot) -> list[tuple[str, str]]:
    """Return kernel and place of each file that no snapshot holds, entries last."""
    modules = set(kernels.that_fit(host.root_fd))
    rows: dict[str, str] = {}
    entries: dict[str, str] = {}
    for bootable in found.bootables:
        place = found.place_of(bootable)
        if place.in_root or not bootable.fits(modules):
            continue
        entry = place.locate_entry(bootable.entry.file)
        starts = [place.locate(path) for path in bootable.entry.files]
        if any(os.path.islink(places.path_of(host, where)) for where in (entry, *starts)):
            continue  # what a link leads to may be another file by then
        rows |= dict.fromkeys(starts, bootable.kernel)
        entries[entry] = bootable.kernel
    return [(kernel, where) for where, kernel in {**rows, **entries}.items()]


def _saved(
    host: Host,
    directory: int,
    known: dict[tuple[str, int, int], SavedFile],
    kernel: str,
    where: str,
) -> SavedFile:
    path = places.path_of(host, where)
    with kernel_errors("access", path):
        status = os.stat(path)
    before = known.get((where, status.st_size, status.st_mtime_ns))
    if before is not None and _has_size(directory, before.sha256, status.st_size):
        _restrict(directory, before.sha256, status.st_mode)
        return before._replace(kernel=kernel)
    name = _digest(path)
    if not _has_size(directory, name, status.st_size):
        # As hard to read as the original, wherever it is copied to from here.
        durable.replace(directory, name, files.chunks(path), mode=status.st_mode & 0o777)
        if _digest(path) != name:
            durable.remove_durably(directory, name)
            raise StoreError(f"{path} was changed while it was being saved", hint="Try again.")
    _restrict(directory, name, status.st_mode)
    return SavedFile(kernel, where, name, status.st_size, status.st_mtime_ns)


def _has_size(directory: int, name: str, size_bytes: int) -> bool:
    status = files.status_of(directory, name, follow=False)
    return status is not None and status.st_size == size_bytes


def _restrict(directory: int, name: str, mode: int) -> None:
    """Leave nobody more rights to a copy than any of its originals: it may be of several."""
    with kernel_errors("change the mode of", name):
        present = os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode & 0o777
        if present & ~mode:
            os.chmod(name, present & mode, dir_fd=directory)


def _digest(path: str) -> str:
    import hashlib

    digest = hashlib.sha256()
    for chunk in files.chunks(path):
        digest.update(chunk)
    return digest.hexdigest()


def _newest_list(store: Store, directory: int) -> Iterable[SavedFile]:
    """Return the list that was written last, as far as it can be read: it only saves work.

    That has the highest inode: btrfs numbers files as they are made, and no clock changes that.
    """
    newest, found = -1, ""
    for name in files.list_in_tree(directory, ".") or []:
        status = files.status_of(directory, name) if name.endswith(_LIST_SUFFIX) else None
        if status is not None:
            newest, found = max((newest, found), (status.st_ino, name))
    if not found:
        return ()
    try:
        return read(store, found[: -len(_LIST_SUFFIX)]).files
    except saved_files.BootFilesError:  # then the files are read again
        return ()


@contextmanager
def _directory(store: Store) -> Iterator[int]:
    path = store.host.path(PLACE)
    try:
        with suppress(FileExistsError):  # as it should be
            os.mkdir(path, 0o700)
    except OSError as error:
        raise KernelError("make", f"/{PLACE}", error) from error
    with roots.opened(store.host, PLACE) as directory:
        yield directory
