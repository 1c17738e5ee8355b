# SPDX-License-Identifier: GPL-2.0-or-later
"""Crash images: copies of a machine's disks between any two changes, as a power cut leaves them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.kernel.ext4_images import digest


class Camera:
    """Copies disks whenever it is called; `images` has what each copy was called, and its files.

    A copy holds what the filesystems have handed to the disks so far, in whatever order.
    """

    def __init__(self, disks: Sequence[Path], directory: Path) -> None:
        self._disks = disks
        self._directory = directory
        self.images: list[tuple[str, tuple[Path, ...]]] = []

    def __call__(self, label: str) -> None:
        number = len(self.images)
        copies = tuple(self._directory / f"{number:03}-{disk.name}" for disk in self._disks)
        for disk, copy in zip(self._disks, copies):
            command = ("cp", "--sparse=always", "--reflink=auto", str(disk), str(copy))
            subprocess.run(command, check=True)
        self.images.append((label, copies))

    def different(self) -> Iterator[tuple[str, tuple[Path, ...]]]:
        """Give the images, but for those that are the next one too: no change has reached them."""
        digests = [tuple(map(digest, copies)) for _, copies in self.images]
        for image, now, following in zip(self.images, digests, (*digests[1:], None)):
            if now != following:
                yield image
