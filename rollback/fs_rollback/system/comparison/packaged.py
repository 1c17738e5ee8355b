# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether a file still is as its package has it."""

from __future__ import annotations

import hashlib
import os

from ...core.packages.header import PackageFile
from ...errors import kernel_errors
from ..linux import files

_PIECE_BYTES = 1 << 20


def is_as_packaged(tree: int, path: str, file: PackageFile) -> bool:
    """Whether what is at a path of the tree (an open directory) is a file with this content.

    False too where the package does not tell its content: a ghost, a directory, a link. Raises
    KernelError.
    """
    if not file.digest or not file.algorithm:
        return False
    # Where cryptography is restricted, MD5 is refused unless it is said that this is none.
    digest = hashlib.new(file.algorithm, usedforsecurity=False)
    with files.regular_file(tree, path) as descriptor, kernel_errors("read", path):
        if descriptor is None:
            return False
        while piece := os.read(descriptor, _PIECE_BYTES):
            digest.update(piece)
    return digest.hexdigest() == file.digest
