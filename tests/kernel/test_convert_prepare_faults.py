# SPDX-License-Identifier: GPL-2.0-or-later
"""`convert prepare` and `convert abort` that fail or are killed anywhere: as before, or taken back.

As before is every byte, mode, owner, label and time of every file.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fs_rollback.convert.machine import machine as machines
from fs_rollback.convert.prepare import operations, prepare_machine
from fs_rollback.convert.prepare.operations import Operations
from fs_rollback.errors import Error, KernelError, ProcessError, UndoFailedError
from fs_rollback.system.execute.executor import Moment
from tests.kernel.commands import fs_rollback, on_terminal
from tests.kernel.ext4_images import NEW, OLD, write
from tests.kernel.ext4_prepared import (
    EDITED,
    ENTRY,
    STATE,
    Ext4Root,
)
from tests.kernel.faults import in_child
from tests.kernel.machine import run

_STEPS = 10
_MOMENTS = [(moment, number) for number in range(_STEPS) for moment in Moment]
_READING = {"read_file"}
_INJECTED = KernelError("do", "what was asked", OSError(errno.EIO, "injected"))


def _at(place: tuple[Moment, int], act: Callable[[], object]) -> prepare_machine.Observer:
    def observe(moment: Moment, number: int, _: object) -> None:
        if (moment, number) == place:
            act()

    return observe


def _fail() -> None:
    raise _INJECTED


def _interrupt() -> None:
    raise KeyboardInterrupt


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_failure_at_every_step(ext4_root: Ext4Root) -> None:
    for place in _MOMENTS:
        for act, expected in ((_fail, KernelError), (_interrupt, KeyboardInterrupt)):
            with pytest.raises(expected):
                ext4_root.prepare(_at(place, act))
            ext4_root.expect_as_before(*EDITED)
    assert len(ext4_root.prepare().preparation.steps) == _STEPS


def test_a_kill_at_every_step(ext4_root: Ext4Root) -> None:
    for place in _MOMENTS:
        assert in_child(lambda place=place: ext4_root.prepare(_at(place, _kill))) == 9  # type: ignore[misc]
        ext4_root.abort()
        ext4_root.expect_as_before(*EDITED)


def test_after_a_kill_the_commands_say_what_to_do(ext4_root: Ext4Root) -> None:
    assert in_child(lambda: ext4_root.prepare(_at((Moment.AFTER, 5), _kill))) == 9
    done = fs_rollback(ext4_root.root, "convert", "prepare", "--yes", "--have-backup")
    assert done.code == 3
    assert done.err == (
        "fs-rollback: a preparation was interrupted\n"
        "  Undo that with 'fs-rollback convert abort', then prepare again.\n"
    )
    assert fs_rollback(ext4_root.root, "convert", "abort", "--yes").code == 0
    ext4_root.expect_as_before(*EDITED)


class _Faulty:
    """Operations that are killed, or fail, before or after the `point`-th change."""

    def __init__(self, real: Operations, point: int, moment: Moment, act: Callable[[], None]):
        self._real = real
        self._strike = (moment, point)
        self._act = act
        self._count = 0

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._real, name)
        if name in _READING:
            return real

        def operation(*arguments: Any, **options: Any) -> Any:
            number = self._count
            self._count += 1
            if self._strike == (Moment.BEFORE, number):
                self._act()
            result = real(*arguments, **options)
            if self._strike == (Moment.AFTER, number):
                self._act()
            return result

        return operation


@pytest.mark.parametrize("moment", Moment)
def test_an_abort_that_is_killed_goes_on(
    ext4_root: Ext4Root,
    monkeypatch: pytest.MonkeyPatch,
    moment: Moment,
) -> None:
    ext4_root.prepare()
    for point in range(100):
        with monkeypatch.context() as patch:
            faulty = lambda found, point=point: _Faulty(Operations(found), point, moment, _kill)  # noqa: E731
            patch.setattr(prepare_machine, "Operations", faulty)
            killed = in_child(ext4_root.abort) == signal.SIGKILL
        if not killed:
            break
        ext4_root.abort()
        ext4_root.expect_as_before(*EDITED)
        ext4_root.prepare()
    assert point > 20
    ext4_root.expect_as_before(*EDITED)


def test_an_abort_that_fails_says_so(
    ext4_root: Ext4Root,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ext4_root.prepare()
    with monkeypatch.context() as patch:
        patch.setattr(
            prepare_machine, "Operations", lambda m: _Faulty(Operations(m), 3, Moment.BEFORE, _fail)
        )
        with pytest.raises(UndoFailedError, match="undoing the preparation failed") as caught:
            ext4_root.abort()
    assert caught.value.commands[0].startswith("fs-rollback convert abort ")
    ext4_root.abort()
    ext4_root.expect_as_before(*EDITED)


def test_a_failure_that_cannot_be_taken_back(
    ext4_root: Ext4Root,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[int] = []

    def faulty(machine: machines.Ext4Machine) -> object:
        made.append(0)  # the first does the steps, the second takes them back
        real = Operations(machine)
        return _Faulty(real, 4, Moment.BEFORE, _fail) if len(made) > 1 else real

    with monkeypatch.context() as patch:
        patch.setattr(prepare_machine, "Operations", faulty)
        with pytest.raises(UndoFailedError, match="Input/output error after: cannot do what"):
            ext4_root.prepare(_at((Moment.AFTER, 8), _fail))
    ext4_root.abort()
    ext4_root.expect_as_before(*EDITED)


@pytest.mark.parametrize("number", ["first", "last"])
def test_killed_while_dracut_writes(
    ext4_root: Ext4Root,
    monkeypatch: pytest.MonkeyPatch,
    number: str,
) -> None:
    guard = "" if number == "first" else 'case "$kind" in converts) '
    end = "" if number == "first" else ";; esac"
    then = f'{guard}printf half > "$1"; kill -9 $PPID; exit 1 {end}'
    monkeypatch.setenv("DRACUT_THEN", then)
    assert in_child(ext4_root.prepare) == signal.SIGKILL
    monkeypatch.delenv("DRACUT_THEN")
    assert any(path.endswith(".new") for path in ext4_root.changed())
    ext4_root.abort()
    ext4_root.expect_as_before(*EDITED)


@pytest.mark.parametrize("moment", Moment)
@pytest.mark.parametrize("second_names", [True, False], ids=["ext4", "vfat"])
def test_killed_around_the_moment_that_publishes_an_image(
    ext4_root: Ext4Root,
    monkeypatch: pytest.MonkeyPatch,
    moment: Moment,
    second_names: bool,
) -> None:
    """In between, what was made is written down and is not there, or the other way round."""
    publish = operations._publish

    def killed(*arguments: Any, **options: Any) -> None:
        if moment is Moment.AFTER:
            publish(*arguments, **options)
        _kill()

    before = {v: (ext4_root.root / f"boot/initramfs-{v}.img").read_bytes() for v in (OLD, NEW)}
    with monkeypatch.context() as patch:
        patch.setattr(operations, "_publish", killed)
        if not second_names:
            patch.setattr(os, "link", _no_link)
        assert in_child(ext4_root.prepare) == signal.SIGKILL
    ext4_root.abort()
    assert before == {
        v: (ext4_root.root / f"boot/initramfs-{v}.img").read_bytes() for v in (OLD, NEW)
    }
    if second_names:
        ext4_root.expect_as_before(*EDITED)


def test_what_was_half_written_goes(ext4_root: Ext4Root) -> None:
    proposal = ext4_root.prepare()
    for step in proposal.preparation.steps:
        for path in {getattr(step, "path", STATE), getattr(step, "kept", STATE)}:
            write(ext4_root.root, f"{path}.fs-rollback.new", "half")
    ext4_root.abort()
    ext4_root.expect_as_before(*EDITED)


@pytest.mark.parametrize(
    ("then", "expected", "part"),
    [
        ("echo nothing goes >&2; exit 1", ProcessError, "dracut failed: nothing goes"),
        ('printf half > "$1"; exit 1', ProcessError, "dracut failed: exit code 1"),
        ("kind=without", Error, f"the new initramfs of {OLD} has no btrfs"),
        ('[ "$kind" = usual ] || exit 3', ProcessError, "dracut failed: exit code 3"),
        ('[ "$kind" = usual ] || kind=without', Error, f"the new initramfs of {OLD} has no btrfs"),
        (
            "kind=says",
            Error,
            f"of {OLD} contains rootfstype=ext4 rootflags=rw,errors=remount-ro its",
        ),
        ("exec true", KernelError, "No such file"),
    ],
)
def test_dracut_fails(
    ext4_root: Ext4Root,
    monkeypatch: pytest.MonkeyPatch,
    then: str,
    expected: type[Error],
    part: str,
) -> None:
    monkeypatch.setenv("DRACUT_THEN", then)
    with pytest.raises(expected, match=part):
        ext4_root.prepare()
    ext4_root.expect_as_before(*EDITED)


def test_ctrl_c_while_dracut_works(ext4_root: Ext4Root) -> None:
    env = {"DRACUT_THEN": "sleep 60", "PATH": os.environ["PATH"]}
    words = ("convert", "prepare", "--at-next-boot", "--yes", "--have-backup")
    terminal = on_terminal(ext4_root.root, *words, env=env)
    terminal.read_until("step 6 of 10")
    terminal.type("\x03")
    assert terminal.end() == 130
    ext4_root.expect_as_before(*EDITED)


def _boot_of_its_own(root: Path, size_bytes: int) -> None:
    """Give the machine a /boot on a disk of its own, with all that was in /boot."""
    image = root.parent / "boot.img"
    with image.open("wb") as file:
        file.truncate(size_bytes)
    run("mkfs.ext4", "-q", "-m", "0", "-d", str(root / "boot"), str(image))
    run("mount", "-o", "loop,noatime", str(image), str(root / "boot"))
    entry = root / ENTRY
    for path in entry.parent.iterdir():
        path.write_text(path.read_text().replace(" /boot/", " /"))


def test_no_room_on_boot(ext4_root: Ext4Root) -> None:
    _boot_of_its_own(ext4_root.root, 64 << 20)
    done = fs_rollback(
        ext4_root.root, "convert", "prepare", "--at-next-boot", "--yes", "--have-backup"
    )
    assert done.code == 3
    assert done.sentence.startswith("/boot has no room for 128 MiB: ")
    assert not (ext4_root.root / "fs-snapshots").exists()


def test_the_room_on_boot_goes(ext4_root: Ext4Root, monkeypatch: pytest.MonkeyPatch) -> None:
    _boot_of_its_own(ext4_root.root, 160 << 20)
    boot = ext4_root.root / "boot"
    files = {path: path.read_bytes() for path in boot.rglob("*") if path.is_file()}
    large = 'head --bytes=160M /dev/zero > "$1" || exit 1'
    for then in (large, f'case "$*" in *{NEW}) {large};; esac', f"[ $kind = usual ] || {large}"):
        monkeypatch.setenv("DRACUT_THEN", then)
        with pytest.raises(ProcessError, match="No space left on device"):
            ext4_root.prepare()
        assert {path: path.read_bytes() for path in boot.rglob("*") if path.is_file()} == files
        assert not (ext4_root.root / "fs-snapshots").exists()


def _no_link(*_: object) -> None:
    raise PermissionError(errno.EPERM, "Operation not permitted")


def test_a_boot_without_second_names(
    ext4_root: Ext4Root,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On vfat, which not every kernel here has, the old image is kept by a copy."""
    monkeypatch.setattr(os, "link", _no_link)
    image = ext4_root.root / f"boot/initramfs-{OLD}.img"
    before = image.read_bytes()
    ext4_root.prepare()
    kept = Path(f"{image}.before-btrfs")
    assert kept.read_bytes() == before != image.read_bytes()
    assert kept.stat().st_mode == image.stat().st_mode
    ext4_root.abort()
    assert image.read_bytes() == before
    assert not kept.exists()
