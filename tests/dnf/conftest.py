# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines with real dnf 4 and the product on them; each test has one of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.sandbox.base import base_image, cache_directory
from tests.sandbox.layout import Layout
from tests.sandbox.machine import Sandbox


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """An empty directory: what the machines of this test see as their only repository."""
    path = tmp_path / "repository"
    path.mkdir()
    return path


@contextmanager
def _bare(layout: Layout, directory: Path, repository: Path) -> Iterator[Sandbox]:
    """Boot a machine without the product on it."""
    image = base_image(cache_directory(), layout, say=print)
    with Sandbox(image, layout, directory, repository) as sandbox:
        sandbox.boot()
        yield sandbox
    # Only here after success: the disk of a failed test stays for whoever wants to look at it.
    sandbox.image.unlink()


@contextmanager
def _with_product(
    layout: Layout, directory: Path, repository: Path, rpms: list[Path]
) -> Iterator[Sandbox]:
    """Boot a machine with the product installed as rpm does it."""
    with _bare(layout, directory, repository) as sandbox:
        sandbox.install(rpms)
        yield sandbox


@pytest.fixture(params=list(Layout), ids=lambda layout: layout.value)
def layout(request: pytest.FixtureRequest) -> Layout:
    """Each layout in turn: a test that asks for it, or for any_sandbox, runs once for each."""
    assert isinstance(request.param, Layout)
    return request.param


@pytest.fixture
def bare_sandbox(layout: Layout, tmp_path: Path, repository: Path) -> Iterator[Sandbox]:
    """A machine of each layout in turn, without the product."""
    with _bare(layout, tmp_path, repository) as sandbox:
        yield sandbox


@pytest.fixture
def bare_named(tmp_path: Path, repository: Path) -> Iterator[Sandbox]:
    """A machine with a named root, without the product."""
    with _bare(Layout.NAMED, tmp_path, repository) as sandbox:
        yield sandbox


@pytest.fixture
def any_sandbox(
    layout: Layout, tmp_path: Path, repository: Path, product_rpms: list[Path]
) -> Iterator[Sandbox]:
    """A machine of each layout in turn, with the product."""
    with _with_product(layout, tmp_path, repository, product_rpms) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(tmp_path: Path, repository: Path, product_rpms: list[Path]) -> Iterator[Sandbox]:
    """A machine with a named root, as Fedora's, and the product."""
    with _with_product(Layout.NAMED, tmp_path, repository, product_rpms) as sandbox:
        yield sandbox


@pytest.fixture
def toplevel_sandbox(
    tmp_path: Path, repository: Path, product_rpms: list[Path]
) -> Iterator[Sandbox]:
    """A machine with its root in the top level, as a converted ext4, and the product."""
    with _with_product(Layout.TOP_LEVEL, tmp_path, repository, product_rpms) as sandbox:
        yield sandbox
