# SPDX-License-Identifier: GPL-2.0-or-later
"""Tools that are newer than the host's, for tests of what needs them."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from tests.need import need, withhold
from tests.sandbox.base import built_once, cache_directory, debian_tarball, digest, is_debian

# btrfs-progs 6.17 or later: what is written down in the manual as the advised version.
_SUITE = "forky"
_PACKAGES = ("base-files", "btrfs-progs")  # base-files has the links /lib and /lib64
_PROGRAMS = ("btrfs", "btrfs-convert", "btrfstune", "mkfs.btrfs")

# The program's own loader and libraries: the host's may be older.
_WRAPPER = """#!/bin/sh
exec {root}/lib64/ld-linux-x86-64.so.2 --argv0 {program} \\
    --library-path {root}/usr/lib/x86_64-linux-gnu {root}/usr/bin/{program} "$@"
"""


def newer_btrfs_progs() -> Path:
    """Return a directory with `btrfs`, `btrfs-convert` and more, to be the first one in PATH.

    They work on the host's own devices and files. Fetched once, then from the cache; the test is
    withheld on a host that is not Debian's kin.
    """
    need("mmdebstrap")
    if not is_debian():
        withhold("newer btrfs-progs are taken from Debian with mmdebstrap")
    name = f"btrfs-progs-{_SUITE}-{digest(_PACKAGES, _PROGRAMS, _WRAPPER)}"
    directory = cache_directory() / name
    with built_once(directory) as unfinished:
        if unfinished is not None:
            _unpack(unfinished, directory)
    return directory / "wrappers"


def _unpack(unfinished: Path, directory: Path) -> None:
    """Write root/ and wrappers/ to `unfinished`, which is going to be `directory`."""
    with tempfile.TemporaryDirectory(dir=directory.parent) as scratch:
        tarball, tree = Path(scratch, "tarball"), Path(scratch, "tree")
        debian_tarball(tarball, _SUITE, _PACKAGES, variant="extract")
        (tree / "root").mkdir(parents=True)
        (tree / "wrappers").mkdir()
        command = ["tar", "--extract", f"--file={tarball}", f"--directory={tree / 'root'}"]
        subprocess.run(command, check=True)
        for program in _PROGRAMS:
            path = tree / "wrappers" / program
            path.write_text(_WRAPPER.format(root=directory / "root", program=program))
            path.chmod(0o755)
        tree.rename(unfinished)
