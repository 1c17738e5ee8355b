# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines with a real dnf and the product on them; each test has one of its own.

Their dnf is dnf 4, where a test is not parametrized with `engine`: scenes.py has the marks.
"""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Union

import pytest

from tests.need import withhold
from tests.sandbox.base import base_image, cache_directory
from tests.sandbox.engine import Engine
from tests.sandbox.layout import Layout
from tests.sandbox.machine import Sandbox


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """An empty directory: what the machines of this test see as their only repository."""
    path = tmp_path / "repository"
    path.mkdir()
    return path


@pytest.fixture
def engine() -> Engine:
    """The dnf of the machines of this test."""
    return Engine.DNF4


def image_of(layout: Layout, engine: Engine) -> Path:
    """Return the image that machines start with; the test is withheld where there is none."""
    image = _try_image(layout, engine)
    if isinstance(image, str):
        withhold(image)
    return image


@functools.cache  # what takes a minute to fail is tried once
def _try_image(layout: Layout, engine: Engine) -> Union[Path, str]:
    try:
        return base_image(cache_directory(), layout, engine, say=print)
    except (RuntimeError, subprocess.CalledProcessError) as error:
        return f"no sandbox with {engine.description}: {error}"


@contextmanager
def _bare(layout: Layout, engine: Engine, directory: Path, repository: Path) -> Iterator[Sandbox]:
    """Boot a machine without the product on it."""
    image = image_of(layout, engine)
    with Sandbox(image, layout, directory, repository, engine) as sandbox:
        sandbox.boot()
        yield sandbox
    # Only here after success: the disk of a failed test stays for whoever wants to look at it.
    sandbox.image.unlink()


@contextmanager
def _with_product(
    layout: Layout, engine: Engine, directory: Path, repository: Path, rpms: list[Path]
) -> Iterator[Sandbox]:
    """Boot a machine with the product installed as rpm does it."""
    with _bare(layout, engine, directory, repository) as sandbox:
        sandbox.install(rpms)
        yield sandbox


@pytest.fixture(params=list(Layout), ids=lambda layout: layout.value)
def layout(request: pytest.FixtureRequest) -> Layout:
    """Each layout in turn: a test that asks for it, or for any_sandbox, runs once for each."""
    assert isinstance(request.param, Layout)
    return request.param


@pytest.fixture
def bare_sandbox(
    layout: Layout, engine: Engine, tmp_path: Path, repository: Path
) -> Iterator[Sandbox]:
    """A machine of each layout in turn, without the product."""
    with _bare(layout, engine, tmp_path, repository) as sandbox:
        yield sandbox


@pytest.fixture
def bare_named(engine: Engine, tmp_path: Path, repository: Path) -> Iterator[Sandbox]:
    """A machine with a named root, without the product."""
    with _bare(Layout.NAMED, engine, tmp_path, repository) as sandbox:
        yield sandbox


@pytest.fixture
def any_sandbox(
    layout: Layout,
    engine: Engine,
    tmp_path: Path,
    repository: Path,
    product_rpms: list[Path],
) -> Iterator[Sandbox]:
    """A machine of each layout in turn, with the product."""
    with _with_product(layout, engine, tmp_path, repository, product_rpms) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(
    engine: Engine, tmp_path: Path, repository: Path, product_rpms: list[Path]
) -> Iterator[Sandbox]:
    """A machine with a named root, as Fedora's, and the product."""
    with _with_product(Layout.NAMED, engine, tmp_path, repository, product_rpms) as sandbox:
        yield sandbox


@pytest.fixture
def toplevel_sandbox(
    engine: Engine, tmp_path: Path, repository: Path, product_rpms: list[Path]
) -> Iterator[Sandbox]:
    """A machine with its root in the top level, as a converted ext4, and the product."""
    with _with_product(Layout.TOP_LEVEL, engine, tmp_path, repository, product_rpms) as sandbox:
        yield sandbox
