# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines on loop files. All mounts are made in a namespace that ends with this process."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest

from tests.kernel import cut_scene, ext4_images, ext4_prepared, journal, running
from tests.kernel.cut_scene import Scene
from tests.kernel.ext4_prepared import Ext4Root
from tests.kernel.machine import LAYOUTS, Machine, run
from tests.kernel.newer_tools import newer_btrfs_progs

_CLONE_NEWNS = 0x20000  # linux/sched.h


@pytest.fixture(scope="session", autouse=True)
def _private_mounts() -> None:
    """Keep mounts out of the host's table: a killed run leaves nothing behind."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.unshare(_CLONE_NEWNS) == 0, "this needs root"
    run("mount", "--make-rprivate", "/")
    journal.hide()


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Leave nothing in the cache of the system that the tests run on."""
    os.environ["CACHE_DIRECTORY"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session", autouse=True)
def _boots() -> None:
    running.install()


MakeMachine = Callable[[str], Machine]


@pytest.fixture
def make_machine(tmp_path: Path) -> Iterator[MakeMachine]:
    """Give a function that makes a machine of a layout; all are gone after the test."""
    made: list[Machine] = []

    def make(layout: str) -> Machine:
        directory = tmp_path / f"machine{len(made)}"
        directory.mkdir()
        machine = Machine(directory, layout)
        made.append(machine)
        machine.create()
        return machine

    yield make
    for machine in made:
        machine.destroy()


@pytest.fixture(params=LAYOUTS)
def machine(request: pytest.FixtureRequest, make_machine: MakeMachine) -> Machine:
    """Give a machine of each layout in turn."""
    return make_machine(request.param)


@pytest.fixture
def named(make_machine: MakeMachine) -> Machine:
    """Give a machine laid out as Fedora's."""
    return make_machine("named")


@pytest.fixture
def btrfs_progs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let commands of the test find btrfs-progs that are newer than the host's."""
    path = os.environ.get("PATH", os.defpath)
    monkeypatch.setenv("PATH", f"{newer_btrfs_progs()}:{path}")


@pytest.fixture(scope="session")
def ext4_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the files of a system with an ext4 root that nothing is said against."""
    tree = tmp_path_factory.mktemp("tree")
    ext4_images.fill(tree)
    return tree


@pytest.fixture(scope="session")
def _ext4_template(tmp_path_factory: pytest.TempPathFactory, ext4_tree: Path) -> Path:
    image = tmp_path_factory.mktemp("template") / "disk.img"
    ext4_images.make(image, ext4_tree)
    return image


@pytest.fixture
def ext4_image(tmp_path: Path, _ext4_template: Path) -> Path:
    """Give an image of that, to be changed."""
    return ext4_images.copy(_ext4_template, tmp_path / "disk.img")


@pytest.fixture
def ext4_root(
    ext4_image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Ext4Root]:
    """Give one that waits to be prepared, with the stand-in first in PATH."""
    tools = tmp_path / "tools"
    ext4_prepared.write_tools(tools)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}:/usr/sbin:/sbin")
    with ext4_prepared.mounted(ext4_image, tmp_path) as root:
        ext4_prepared.fill(root)
        yield Ext4Root(root, tools)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Give a disk before its conversion, and the writes of that and of the way back."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{newer_btrfs_progs()}:{os.environ['PATH']}")
        yield cut_scene.made(tmp_path_factory.mktemp("cuts"))
