# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import errno

import pytest

from fs_rollback import errors
from fs_rollback.errors import Error, KernelError, UndoFailedError

# The promise that scripts rely on: the code tells the state of the machine.
CODES = {
    "UsageError": 2,
    "ConfigError": 2,
    "RefusedError": 3,
    "UnsupportedRootError": 3,
    "UndoFailedError": 4,
    "PathAwayError": 4,
    "InterruptedRunError": 130,
}


def test_every_error_has_its_code() -> None:
    found = [value for value in vars(errors).values() if isinstance(value, type)]
    kinds = [kind for kind in found if issubclass(kind, Error)]
    assert len(kinds) > len(CODES)
    for kind in kinds:
        assert kind.exit_code == CODES.get(kind.__name__, 1), kind


def test_message_and_hint_are_apart() -> None:
    error = Error("what happened", hint="what to do")
    assert (str(error), error.message, error.hint) == (
        "what happened",
        "what happened",
        "what to do",
    )
    assert Error("x").hint == ""


@pytest.mark.parametrize(
    ("number", "word"),
    [
        (errno.ENOSPC, "df -h"),
        (errno.EACCES, "sudo"),
        (errno.EROFS, "dmesg"),
        (errno.ETXTBSY, "swapon"),
        (errno.EDQUOT, "qgroup"),
        (errno.ENOTDIR, ""),
    ],
)
def test_the_kernels_reason_brings_a_way_out(number: int, word: str) -> None:
    error = KernelError("make the snapshot", "/a", OSError(number, "x", "/a"))
    assert error.errno == number
    assert str(error).startswith("cannot make the snapshot /a: ")
    assert word in error.hint
    assert bool(word) == bool(error.hint)


def test_an_os_error_without_a_number_keeps_its_text() -> None:
    assert str(KernelError("read", "/a", OSError("odd"))) == "cannot read /a: odd"


def test_what_needs_hands_gives_the_commands() -> None:
    error = UndoFailedError("undo failed", commands=["mount /dev/vda3 /mnt", "mv a b"])
    assert error.hint.splitlines()[1:] == ["  mount /dev/vda3 /mnt", "  mv a b"]
    assert error.commands == ("mount /dev/vda3 /mnt", "mv a b")
