# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the disk of the demo lies while it runs, and how the base of it is built.

Whatever kills the demo, SIGKILL included: nothing stays mounted, no loop device stays, and what
stays in the directory is removed by the next run.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.sandbox.engine import Engine
from tests.sandbox.layout import Layout

from .proof import DemoError

_PREFIX = "fs-rollback-demo-"
_KEPT = "kept-for-a-look"
_CHECKOUT = Path(__file__).parents[2]

# A PID namespace that ends with this process: a debootstrap that outlived it would go on mounting
# and writing. setpriv keeps its PID through exec, so the signal reaches unshare.
_ENDS_WITH_US = (
    "setpriv", "--pdeathsig", "KILL",
    "unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child",
    "--mount-proc",
)  # fmt: skip


@contextmanager
def work_directory() -> Iterator[Path]:
    """Give a directory that is removed at the end, unless `keep` marked it."""
    # Not /tmp: it is in memory on many machines, and a disk takes half a gigabyte.
    parent = Path(os.environ.get("TMPDIR") or "/var/tmp")
    _sweep(parent)
    path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (path / "repository").mkdir()
        yield path
    finally:
        os.close(lock)
        if not (path / _KEPT).exists():
            shutil.rmtree(path)


def keep(directory: Path) -> None:
    """Leave a work directory to whoever wants to look at it."""
    (directory / _KEPT).touch()


def build_base(engine: Engine, layout: Layout, directory: Path) -> None:
    """Build the image of a machine if it is not in the cache; its messages go to stdout.

    Raises DemoError.
    """
    program = [sys.executable, "-B", "-m", "tests.demonstration.base", engine.value, layout.value]
    command = [*_ENDS_WITH_US, *program]
    environment = {**os.environ, "TMPDIR": os.fspath(directory)}
    try:
        # A session of its own: Ctrl-C is for us, who then kill all of it.
        subprocess.run(
            command,
            cwd=_CHECKOUT,
            env=environment,
            stdin=subprocess.DEVNULL,
            check=True,
            start_new_session=True,
        )
    except subprocess.CalledProcessError as error:
        raise DemoError("the base system was not built; the reason is above") from error


def traces(directory: Path) -> list[str]:
    """Return the mounts and the loop devices that have to do with the directory."""
    table = Path("/proc/self/mountinfo").read_text().splitlines()
    command = ["losetup", "--list", "--noheadings", "--output=NAME,BACK-FILE"]
    loops = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return [line for line in (*table, *loops) if os.fspath(directory) in line]


def _sweep(parent: Path) -> None:
    """Remove what killed runs left: directories of ours that nobody has locked."""
    for path in parent.glob(f"{_PREFIX}*"):
        try:
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # An empty one may be that of a run that is just about to lock it.
            content = os.listdir(lock)
            if content and _KEPT not in content and os.fstat(lock).st_uid == os.geteuid():
                shutil.rmtree(path)
        except BlockingIOError:
            pass  # its run still works in it
        finally:
            os.close(lock)
