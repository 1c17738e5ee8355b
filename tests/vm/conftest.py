# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines for the tests of this tier, and a table of what they cost."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.need import withhold
from tests.sandbox.base import cache_directory, is_debian
from tests.sandbox.engine import Engine
from tests.vm.base import Base, base, missing_tools
from tests.vm.dnf5 import dnf5_base
from tests.vm.selinux import selinux_base
from tests.vm.stories import Cost, Story, Telling

if TYPE_CHECKING:
    from _pytest.terminal import TerminalReporter

_COSTS = pytest.StashKey[list[Cost]]()


def pytest_terminal_summary(terminalreporter: TerminalReporter, config: pytest.Config) -> None:
    """Write the table of machines: cell, boots, seconds."""
    costs = config.stash.get(_COSTS, [])
    if not costs:
        return
    terminalreporter.section("machines")
    terminalreporter.write_line("| cell | boots | seconds of each boot | seconds in all |")
    terminalreporter.write_line("|---|---|---|---|")
    for cost in costs:
        boots = " ".join(f"{seconds:.0f}" for seconds in cost.boots)
        line = f"| {cost.name} | {len(cost.boots)} | {boots} | {cost.seconds:.0f} |"
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def machine_base() -> Base:
    """The system that the machines are made of; built once, then from the cache."""
    missing = missing_tools()
    if missing or not is_debian():
        withhold(f"not installed: {', '.join(missing)}" if missing else "made of Debian's packages")
    return base(cache_directory(), say=print)


@pytest.fixture(scope="session")
def telling(
    request: pytest.FixtureRequest,
    machine_base: Base,
    product_rpms: list[Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Telling]:
    """The stories of all selected tests, which begin now."""

    def base_for(story: Story) -> Base:
        make = dnf5_base if story.engine is Engine.DNF5 else None
        make = selinux_base if story.design.selinux else make
        if make is None:
            return machine_base
        try:
            return make(cache_directory(), machine_base, say=print)
        except (OSError, subprocess.CalledProcessError) as error:
            withhold(f"the system of {story} cannot be made: {error}")

    directory = tmp_path_factory.mktemp("machines")
    with Telling(_stories(request.session), base_for, product_rpms, directory) as telling:
        request.config.stash[_COSTS] = telling.costs
        yield telling


def _stories(session: pytest.Session) -> list[Story]:
    """Return the stories of the tests that are to be run, in their order, the long ones first."""
    functions = (item for item in session.items if isinstance(item, pytest.Function))
    parameters = (item.callspec.params for item in functions if hasattr(item, "callspec"))
    found = (values.get("story") for values in parameters)
    stories = [story for story in found if isinstance(story, Story)]
    return sorted(stories, key=lambda story: not story.long)
