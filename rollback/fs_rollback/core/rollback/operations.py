# SPDX-License-Identifier: GPL-2.0-or-later
"""What the steps of a plan need from a machine; system/execute/trees.py is the real one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional, Protocol


class Operations(Protocol):
    """What steps need from a filesystem. Every method raises errors.Error if it fails."""

    def snapshot(self, source: str, destination: str, *, read_only: bool) -> None:
        """Make a snapshot of a subvolume."""

    def delete(self, path: str) -> None:
        """Delete a subvolume and all that are nested in it; nothing to do if there is none."""

    def set_read_only(self, path: str, *, read_only: bool) -> None:
        """Make a subvolume read-only or writable; nothing to do if there is none."""

    def subvolume(self, path: str) -> tuple[int, str]:
        """Return ID and UUID of the subvolume at `path`, or (0, "") if there is none."""

    def origin(self, path: str) -> str:
        """Return the UUID of what the subvolume at `path` is a snapshot of, "" if of nothing."""

    def locate(self, uuid: str) -> Optional[str]:
        """Return the path of the subvolume with this UUID, None if there is none."""

    def exchange(self, one: str, other: str) -> None:
        """Exchange two names in one atomic step."""

    def rename(self, old: str, new: str) -> None:
        """Give a subvolume a name that is free."""

    def default_id(self) -> int:
        """Return the ID of the default subvolume."""

    def set_default(self, subvolume_id: int) -> None:
        """Make a subvolume the default one."""

    def sync(self) -> None:
        """Write everything to the disk."""

    def make_room(self, model: str, tree: str, path: str) -> None:
        """Free the place `path` in `tree`; missing directories above it are made as in `model`."""

    def remove(self, tree: str, path: str) -> None:
        """Remove what is at `path` in `tree`, if it and the directories above it exist."""

    def end_unfinished(self, tree: str) -> None:
        """Remove unfinished work from a copy of a root, so that it does not continue there.

        That is an offline update that waits for its boot, and an interrupted first boot: what that
        moved aside is put back.
        """

    def make_directory(self, model: str, tree: str, path: str) -> None:
        """Put an empty directory in the place of a stand-in, with the mode and owner in `model`."""

    def copy(self, source: str, tree: str, path: str) -> None:
        """Replace what is at `path` in `tree` by a copy of what `source` has there."""

    def keep(self, source: str, tree: str, paths: Sequence[str]) -> None:
        """Make each of `paths` in `tree` equal to `source`, the snapshot that was made last."""

    def renew_swap(self, tree: str, path: str) -> None:
        """Make a swap file anew if the kernel would not use it as it is."""

    def read_file(self, tree: str, path: str) -> str:
        """Return a text file of a tree, "" if there is none."""

    def write_file(self, tree: str, path: str, text: str) -> None:
        """Replace a file, durable with the next sync; owner, mode and extended attributes stay."""

    def label_at_boot(self, tree: str) -> None:
        """Have the next boot of a root label all its files for SELinux; durable."""

    def write_record(self, name: str, text: str) -> None:
        """Write a record into the store durably."""

    def remove_record(self, name: str) -> None:
        """Remove a record from the store; nothing to do if there is none."""

    def kernels(self, path: str) -> tuple[str, ...]:
        """Return the kernel versions that have modules in the subvolume at `path`."""

    def runs(self, path: str, kernel: str) -> bool:
        """Whether the subvolume at `path` is the running root, and this its kernel."""

    def put_file(self, source: str, destination: str) -> None:
        """Copy a file durably to a free place; both are paths as system/loader names them."""

    def remove_copy(self, source: str, destination: str) -> None:
        """Remove what `put_file` made; anything else there, or nothing, is left."""

    def setting(self, file: str, key: str) -> Optional[str]:
        """Return the boot loader's setting `key` in `file`, None if it is not set."""

    def write_setting(self, file: str, key: str, value: Optional[str]) -> None:
        """Change a boot loader's setting durably; None removes it."""
