# SPDX-License-Identifier: GPL-2.0-or-later
"""Stories of machines, told several at a time: a boot uses one processor, and there are more.

A test is one story. They begin when the first test asks for one, the long ones first and
else in the order of the tests, and each test waits for its own.

    @pytest.mark.parametrize("story", [Story("name", DESIGN, function)], ids=str)
    def test_something(story: Story, telling: Telling) -> None:
        telling.hear(story)
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from tests.sandbox.engine import Engine
from tests.sandbox.product import rpms_for
from tests.sandbox.rpms import Package, build

from .base import Base
from .design import Design
from .machine import Machine


def all_wanted() -> bool:
    """Whether every story is to be told, with every cut of the power: FS_ROLLBACK_VM=full."""
    return os.environ.get("FS_ROLLBACK_VM") == "full"


def wanted(stories: Iterable[Story]) -> list[Story]:
    """Return the stories that are to be told."""
    return [story for story in stories if all_wanted() or not story.rare]


@dataclass(frozen=True)
class Story:
    """What is done with one machine, and what has to come of it.

    `tell` raises whatever a test raises. `packages` are installed beside the product. `engine` is
    the dnf that the machine has. A `rare` one is told only where all are wanted: another one is
    much like it. A `long` one begins before the others: no processor is left with it in the end.
    """

    name: str
    design: Design
    tell: Callable[[Machine], None]
    packages: tuple[Package, ...] = ()
    engine: Engine = Engine.DNF4
    rare: bool = False
    long: bool = False

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Cost:
    """What one story has cost: its boots in seconds, and all of it from the first file on."""

    name: str
    boots: tuple[float, ...]
    seconds: float


class Telling:
    """Tells the stories; leaving the `with` cuts the power of every machine that still runs.

    `base_for` returns the system that a story needs, and raises what the test shall raise without.
    """

    def __init__(
        self,
        stories: Iterable[Story],
        base_for: Callable[[Story], Base],
        rpms: list[Path],
        directory: Path,
    ):
        self.costs: list[Cost] = []
        self._base_for = base_for
        self._rpms = rpms
        self._directory = directory
        self._machines: list[Machine] = []
        self._lock = threading.Lock()
        self._stopped = False
        self._pool = ThreadPoolExecutor(max_workers=os.cpu_count())
        self._told: dict[str, Future[None]] = {}
        for story in stories:
            if story.name in self._told:
                raise ValueError(f"two stories are named {story.name}")
            self._told[story.name] = self._pool.submit(self._tell, story)

    def __enter__(self) -> Telling:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._stopped = True
            for machine in self._machines:
                machine.scrap()
        self._pool.shutdown(cancel_futures=True)

    def hear(self, story: Story) -> None:
        """Wait for the end of a story; raises what it raised."""
        self._told[story.name].result()

    def _tell(self, story: Story) -> None:
        """Build the machine and tell its story. The disks of a failure stay for a look at them."""
        base = self._base_for(story)
        begin = time.monotonic()
        directory = self._directory / story.name
        directory.mkdir()
        rpms = rpms_for(story.engine, self._rpms)
        if story.packages:
            rpms += build(story.packages, directory)
        machine = Machine.build(story.design, directory, base, rpms)
        with self._lock:
            if self._stopped:
                machine.scrap()
            self._machines.append(machine)
        try:
            story.tell(machine)
        finally:
            seconds = time.monotonic() - begin
            self.costs.append(Cost(story.name, tuple(machine.boots), seconds))
        shutil.rmtree(directory)
