# SPDX-License-Identifier: GPL-2.0-or-later
"""The root gets its name: at every moment the next boot finds the same root, and it goes on."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import btrfsutil
import pytest

from fs_rollback.cli import session
from fs_rollback.convert.finish import named_files, rename_root
from fs_rollback.errors import Error, KernelError, RefusedError
from fs_rollback.system.execute.trees import Operations
from fs_rollback.system.linux import btrfs, durable, removal
from fs_rollback.system.root import root_lines
from fs_rollback.system.snapshots import take_and_delete
from tests import manifest
from tests.kernel.boots import B, BootMachine
from tests.kernel.converted import Converted
from tests.kernel.ext4_images import digest
from tests.kernel.faults import in_child
from tests.kernel.images import Camera
from tests.kernel.machine import Machine, run

_CHANGES = ("delete", "exchange", "rename", "snapshot", "set_read_only", "make_room")


class Template(NamedTuple):
    """The disk of a machine after the first phase and its reboot, and what was seen of it."""

    image: Path
    uuid: str
    seen: dict[str, manifest.Manifest]


@pytest.fixture(scope="module", name="template")
def _template(tmp_path_factory: pytest.TempPathFactory) -> Template:
    directory = tmp_path_factory.mktemp("template")
    machine = Machine(directory, "top-level")
    machine.create()
    try:
        boot = BootMachine(machine, "top level")
        boot.create()
        converted = Converted(boot)
        converted.create()
        # What is nested in /home is not in any copy of its directories.
        btrfsutil.create_subvolume(str(machine.root / "home/user/nested"))
        machine.write(machine.root, "home/user/nested/file", "nested 1\n")
        done = converted.finish("--remove-ext4", "--layout")
        assert done.code == 0, done
        converted.start()
        assert converted.command("settle", "--at-boot").code == 0
        # The old one of it, which a person moves out of the way: it stays where it was.
        run("mount", "-o", "loop,subvolid=5", str(machine.image), str(machine.top))
        btrfsutil.delete_subvolume(str(machine.top / "home/user/nested"))
        converted.start()
        return Template(machine.image, machine.uuid, converted.seen())
    finally:
        subprocess.run(("umount", "--quiet", "--recursive", str(machine.root)), check=False)
        machine.destroy()


@pytest.fixture(name="make")
def _make(template: Template, tmp_path: Path) -> Iterator[Callable[[], Converted]]:
    """Give a function that gives a machine with a new copy of that disk, always the same one."""
    machine = Machine(tmp_path, "top-level")
    machine.uuid = template.uuid
    machine.root.mkdir()
    machine.top.mkdir()
    converted = Converted(BootMachine(machine, "top level"))

    def make() -> Converted:
        converted.unmount()
        machine.image.unlink(missing_ok=True)
        run("cp", "--sparse=always", str(template.image), str(machine.image))
        converted.start()
        return converted

    yield make
    converted.unmount()
    machine.destroy()


@pytest.fixture(name="converted")
def _converted(make: Callable[[], Converted]) -> Converted:
    return make()


class Changes:
    """Every change that is made, in this module's hands: told to `act`, before and after."""

    def __init__(self, patch: pytest.MonkeyPatch, act: Callable[[str, int, str], None]) -> None:
        self._act = act
        self._count = 0
        self._depth = 0
        for name in _CHANGES:
            self._watch(patch, Operations, name)
        for place, name in (
            (rename_root, "write_file"), (rename_root, "_copy"), (named_files, "write_file"),
        ):  # fmt: skip
            self._watch(patch, place, name)
        self._watch(patch, btrfs, "create_subvolume")
        self._watch(patch, take_and_delete, "delete")
        self._watch(patch, removal, "remove")
        self._watch(patch, durable, "remove_durably")

    def _watch(self, patch: pytest.MonkeyPatch, place: Any, name: str) -> None:
        real = getattr(place, name)

        def watched(*arguments: Any, **options: Any) -> Any:
            if self._depth:
                return real(*arguments, **options)
            number, self._count = self._count, self._count + 1
            self._act("before", number, name)
            self._depth += 1
            try:
                result = real(*arguments, **options)
            finally:
                self._depth -= 1
            self._act("after", number, name)
            return result

        patch.setattr(place, name, watched)


def _fail() -> None:
    raise KernelError("do", "what was asked", OSError(errno.EIO, "injected"))


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


# A test has every third change, and each time one of the three is run.
@pytest.mark.parametrize("first", [0, *(pytest.param(n, marks=pytest.mark.rare) for n in (1, 2))])
@pytest.mark.parametrize("what", ["error before", "kill after"])
def test_cut_off_at_every_change(
    make: Callable[[], Converted],
    template: Template,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    first: int,
) -> None:
    act, _, moment = what.partition(" ")
    for point in range(first, 100, 3):
        converted = make()

        def strike(now: str, number: int, _: str, point: int = point) -> None:
            if (now, number) == (moment, point):
                (_fail if act == "error" else _kill)()

        with monkeypatch.context() as patch:
            Changes(patch, strike)
            if act == "error":
                try:
                    converted.give_names()
                except KernelError:
                    pass  # it was struck: what it left is looked at below
                else:
                    break
            elif in_child(converted.give_names) != signal.SIGKILL:
                break
        converted.expect_whole(template.seen)
        if (converted.machine.root / "etc/fstab").read_text().count("subvol=home"):
            converted.machine.use(2)  # a user goes on; nothing of that may be lost
        converted.give_names()
        converted.start()
        written = (converted.root / "home/user/letter").read_text()
        if written == "user's 2\n":
            converted.machine.write(converted.root, "home/user/letter", "letter 1\n")
        else:
            converted.expect_whole(template.seen)
        assert (converted.root / "home/user/nested/file").read_text() == "nested 1\n"
        converted.expect_named()
    assert point > 25


def test_every_image_boots(
    converted: Converted, template: Template, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    camera = Camera((converted.machine.image,), tmp_path)
    with monkeypatch.context() as patch:
        Changes(patch, lambda now, _, name: camera(name) if now == "before" else None)
        converted.give_names()
    camera("done")
    images: dict[str, tuple[str, Path]] = {}
    for label, (image,) in camera.images:  # what no change has reached yet is the same disk
        images[digest(image)] = (label, image)
    assert len(images) > 8
    for label, image in images.values():
        converted.become(image)
        converted.expect_whole(template.seen)
        if label != "done":
            converted.give_names()
            converted.expect_whole(template.seen)
        converted.expect_named()
        converted.unmount()
        image.unlink()


def _expect_refusal(converted: Converted, part: str) -> None:
    """Check that it is refused with these words, and that nothing is changed by that."""
    names, fstab = converted.names_at_top(), converted.machine.read("etc/fstab")
    done = converted.finish("--layout")
    assert done.code == 3, done
    assert part in done.sentence
    assert converted.names_at_top() == names
    assert converted.machine.read("etc/fstab") == fstab


@pytest.mark.parametrize("name", ["root", "home"])
def test_a_name_that_is_taken(converted: Converted, name: str, template: Template) -> None:
    converted._look()
    run("rm", "-r", str(converted.top / name))
    btrfsutil.create_subvolume(str(converted.top / name))
    _expect_refusal(converted, f"there is already a subvolume {name}")
    converted.expect_whole(template.seen)


def test_what_stays_at_the_top(converted: Converted) -> None:
    converted._look()
    btrfsutil.create_subvolume(str(converted.top / "home/user/other"))
    _expect_refusal(converted, "/home/user/other in it is a subvolume")


def test_a_pinned_old_root(converted: Converted) -> None:
    rows = converted.command("list", "--json").json["snapshots"]
    name = next(row["name"] for row in rows if row["kind"] == "replaced")
    assert converted.command("pin", name).code == 0
    _expect_refusal(converted, f"the old root, 5 ({name}), cannot be deleted: it is pinned")


def test_a_kernel_where_no_loader_looks(converted: Converted) -> None:
    converted.machine.write(converted.root, f"boot/vmlinuz-{B}", "kernel\n")
    _expect_refusal(converted, f"kernels were installed where the boot loader does not look: {B}")


@pytest.mark.parametrize(
    "write",
    [
        lambda home: (home / "user/letter").write_text("late\n"),
        lambda home: (home / "user/letter").unlink(),
        lambda home: (home / "user/letter").chmod(0o600),
        lambda home: (home / "new").mkdir(),
        lambda home: (home / "user/nested/file").write_text("late\n"),
    ],
    ids=["content", "deletion", "mode", "directory", "nested"],
)
def test_written_while_it_is_copied(
    converted: Converted,
    monkeypatch: pytest.MonkeyPatch,
    write: Callable[[Path], object],
) -> None:
    real = rename_root._copy

    def copy(source: str, target: str) -> None:
        real(source, target)
        if "home" in target:
            write(converted.root / "home")

    with monkeypatch.context() as patch:
        patch.setattr(rename_root, "_copy", copy)
        with pytest.raises(Error, match="something was written to /home while it was being copied"):
            converted.give_names()
    assert "home" not in converted.subvolumes()
    after = manifest.manifest(converted.root / "home")
    converted.start()
    assert manifest.compare(after, manifest.manifest(converted.root / "home")) == []
    converted.give_names()
    converted.start()
    assert manifest.compare(after, manifest.manifest(converted.root / "home")) == []
    converted.expect_named()


def test_what_is_only_read_is_no_writing(converted: Converted, template: Template) -> None:
    """The copy reads everything, and so may anybody else."""
    run("mount", "-o", "remount,strictatime", str(converted.root))
    converted.give_names()
    converted.expect_whole(template.seen)
    converted.expect_named()


def test_a_copy_that_was_used_is_not_deleted(
    converted: Converted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off before fstab had its line, then somebody mounted the new /home and wrote there."""

    def no_files(*_: object) -> None:
        _fail()

    with monkeypatch.context() as patch:
        patch.setattr(named_files, "write", no_files)
        with pytest.raises(KernelError):
            converted.give_names()
    converted._look()
    (converted.top / "home/user/letter").write_text("precious\n")
    run("sync", "--file-system", str(converted.top))
    _expect_refusal(converted, "there is already a subvolume home")
    converted._look()
    assert (converted.top / "home/user/letter").read_text() == "precious\n"


def test_on_a_machine_that_runs(converted: Converted, template: Template) -> None:
    """The new subvolumes are mounted at once: what is written from then on is not lost."""
    converted._hide()
    with session.writing(str(converted.root)) as (host, store):
        layout = root_lines.read_layout(host)
        wanted = rename_root.look(host, layout)
        rename_root.refuse(host, store, layout, wanted)
        host.__dict__["is_running"] = True
        rename_root.give_names(host, store, layout, wanted, lambda _: None)
    for name in ("home", "boot"):
        assert (converted.root / name).is_mount()
        assert btrfsutil.subvolume_path(str(converted.root / name), 0) == name
        found = converted.seen()[name]
        assert manifest.compare(template.seen[name], found) == []
    converted.machine.write(converted.root, "home/user/late", "late\n")
    converted.start()
    assert converted.machine.read("home/user/late") == "late\n"
    converted.expect_named()


class _Running:
    """What a host is asked that runs."""

    is_running = True


def test_a_process_with_files_in_home(tmp_path: Path) -> None:
    (tmp_path / "user").mkdir()
    run("mount", "--bind", str(tmp_path), "/home")
    try:
        sleeping = subprocess.Popen([shutil.which("sleep") or "sleep", "60"], cwd="/home/user")
        try:
            said = rf"process {sleeping.pid} \(sleep\) has /home/user open"
            with pytest.raises(RefusedError, match=said) as caught:
                rename_root._refuse_users_of_home(_Running())  # type: ignore[arg-type]
            assert "Log out all users" in caught.value.hint
        finally:
            sleeping.kill()
            sleeping.wait()
        rename_root._refuse_users_of_home(_Running())  # type: ignore[arg-type]
    finally:
        run("umount", "/home")
