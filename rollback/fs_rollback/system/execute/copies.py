# SPDX-License-Identifier: GPL-2.0-or-later
"""Copies of files with all that cp(1) keeps: what a rollback keeps, and what a restore brings."""

from __future__ import annotations

from collections.abc import Sequence

from ...core.progress import Progress, untold
from ...errors import ProcessError
from ..linux import process

_SAYS = "cp: "  # before what goes wrong; each file is named in quotation marks


def archive(*arguments: str, pass_fds: Sequence[int], told: Progress = untold) -> None:
    """Copy as `cp --archive ARGUMENTS`. Raises ProcessError.

    Copies share their data with the original where the filesystem allows it (reflinks); a file that
    does not (NOCOW) is copied plainly. `told` is told how many there are so far.
    """
    command = ("cp", "--archive", "--reflink=auto", *arguments)
    if told is untold:
        process.run(command, pass_fds=pass_fds)
        return
    count, said = 0, ""

    def heard(line: str) -> None:
        nonlocal count, said
        if line.startswith(_SAYS):
            said = line
        else:
            told(count, 0)
            count += 1

    code, last = process.watch((*command, "--verbose"), heard, pass_fds=pass_fds)
    if code:
        raise ProcessError(f"cp failed: {said or last}")
