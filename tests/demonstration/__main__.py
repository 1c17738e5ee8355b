# SPDX-License-Identifier: GPL-2.0-or-later
"""Sets the sandbox up, tells the story in it, and sums up; tests/demo is the command."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from pathlib import Path
from types import FrameType
from typing import Optional

from tests.sandbox.base import base_image, cache_directory
from tests.sandbox.engine import Engine
from tests.sandbox.layout import Layout
from tests.sandbox.machine import Sandbox
from tests.sandbox.product import build_product

from . import workshop
from .proof import DemoError, Proof
from .screen import Screen
from .story import Story

_ORIGINS = {Engine.DNF4: "this host's distribution", Engine.DNF5: "Debian sid"}
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main(engine: Engine, layout: Layout) -> int:
    """Run the demo; return its exit code."""
    for number in _SIGNALS:
        signal.signal(number, _interrupt)
    try:
        with workshop.work_directory() as directory:
            return _judged(engine, layout, directory)
    except KeyboardInterrupt:
        print("\ntests/demo: interrupted; nothing is left mounted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader went away; nothing more can be said to it, not at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _judged(engine: Engine, layout: Layout, directory: Path) -> int:
    """Run the demo in a directory, which is kept for a look if something is wrong."""
    try:
        _demonstrate(engine, layout, directory)
    except BrokenPipeError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, the disk is worth a look
        if not isinstance(error, DemoError):
            traceback.print_exc()
        print(f"\ntests/demo: FAILED: {error}", file=sys.stderr)
        if (directory / "disk.img").exists():
            workshop.keep(directory)
            print(_HOW_TO_LOOK.format(directory=directory), file=sys.stderr)
        return 1
    return 0


_HOW_TO_LOOK = """
The disk of the sandbox is kept:
  mount -o loop,subvolid=5 {directory}/disk.img /mnt    to look at it
  rm -r {directory}    when that is done"""


def _demonstrate(engine: Engine, layout: Layout, directory: Path) -> None:
    started = time.monotonic()
    screen = Screen(sys.stdout)
    proof = Proof(screen)
    screen.heading("A sandbox")
    sandbox = _set_up(engine, layout, directory, screen)
    with sandbox:
        sandbox.boot()
        if engine is Engine.DNF5:
            # It is there for other tests; as on Fedora there is one dnf, and one plugin.
            sandbox.run(["rm", "/usr/bin/dnf-3"])
        sandbox.install(build_product(directory))
        screen.say(f"Ready after {time.monotonic() - started:.0f} s.")
        Story(sandbox, screen, proof).tell()
    proof.claim("The demo leaves nothing mounted and no loop device.")
    proof.equal("no mount and no loop device is left", workshop.traces(directory), [])
    screen.heading("What was proved")
    screen.shown("\n" + "".join(f"{line}\n" for line in proof.summary()))
    seconds = time.monotonic() - started
    screen.shown(f"\n{proof.checks} checks, all passed, in {seconds:.0f} s.\n")


def _set_up(engine: Engine, layout: Layout, directory: Path, screen: Screen) -> Sandbox:
    screen.say(
        f"A machine with its root in {layout.description}, on a btrfs filesystem in a file:"
        f" a small system of {_ORIGINS[engine]}, with real {engine.description} and rpm, and"
        " fs-rollback and its dnf plugin installed as RPMs. It boots in a mount and a PID"
        " namespace; a reboot shuts that down and mounts what the kernel command line and fstab"
        " name then."
    )
    screen.say(
        f"It comes out of {cache_directory()} in seconds; the first time it is built from the"
        " distribution's packages, which takes a minute or two."
    )
    workshop.build_base(engine, layout, directory)
    image = base_image(cache_directory(), layout, engine)
    return Sandbox(image, layout, directory, directory / "repository", engine)


def _interrupt(_number: int, _frame: Optional[FrameType]) -> None:
    # Once is enough: what follows is the way out.
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(Engine(sys.argv[1]), Layout(sys.argv[2])))
