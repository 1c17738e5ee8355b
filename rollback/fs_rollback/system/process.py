# SPDX-License-Identifier: GPL-2.0-or-later
"""The one door through which processes are started: argument lists, never a shell."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence

from ..errors import ProcessError


def run(arguments: Sequence[str], *, pass_fds: Sequence[int] = ()) -> str:
    """Run a program to its end and return what it printed.

    The environment is the caller's with the C locale. Raises ProcessError with the last line it
    wrote to stderr.
    """
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    try:
        done = subprocess.run(
            list(arguments),
            check=False,
            capture_output=True,
            env=environment,
            pass_fds=pass_fds,
            stdin=subprocess.DEVNULL,
        )
    except OSError as error:
        raise ProcessError(f"cannot start {arguments[0]}: {error.strerror}") from error
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        reason = said[-1] if said else f"exit code {done.returncode}"
        raise ProcessError(f"{arguments[0]} failed: {reason}")
    return done.stdout.decode("utf-8", "surrogateescape")
