# SPDX-License-Identifier: GPL-2.0-or-later
"""Copies of files with all that cp(1) keeps: what a rollback keeps, and what a restore brings."""

from __future__ import annotations

from collections.abc import Sequence

from ..linux import process


def archive(*arguments: str, pass_fds: Sequence[int], directory: str | None = None) -> None:
    """Copy as `cp --archive ARGUMENTS`, in `directory` if one is given. Raises ProcessError.

    Copies share their data with the original where the filesystem allows it (reflinks); a file that
    does not (NOCOW) is copied plainly.
    """
    command = ("cp", "--archive", "--reflink=auto", *arguments)
    process.run(command, pass_fds=pass_fds, directory=directory)
