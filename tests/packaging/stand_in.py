# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines for Ansible that are directories: a program answers there for the command.

It gives the recorded answers of the state that the machine is in, and goes to the next state where
the command, or a boot, would. Each machine has a Python of its own in its inventory, which is the
real one with the machine's programs first in PATH: so many machines can be one host.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from tests.sandbox.product import CHECKOUT

ANSWERS = Path(__file__).parent / "answers"
COLLECTION = CHECKOUT / "packaging/ansible"
BEFORE, UPDATED = "yum_20261130100000", "yum_20261130100002"  # as they were recorded

# A shell and no Python: a thousand machines are asked for their answers.
_PROGRAM = """\
#!/bin/sh
echo "$*" >>"$STAND_IN/log"
read -r state <"$STAND_IN/state"
# What a machine does by itself goes on where it is asked the second time.
if [ "$1" = status ] && [ -s "$STAND_IN/coming" ]; then
    if [ -e "$STAND_IN/seen" ]; then
        read -r state <"$STAND_IN/coming"
        sed -i 1d "$STAND_IN/coming"
        echo "$state" >"$STAND_IN/state"
    fi
    : >"$STAND_IN/seen"
fi
IFS=_
words=$*
answer="$ANSWERS/$state/$words"
if [ ! -e "$answer.code" ]; then
    echo "fs-rollback: not recorded in the state $state: $words" >&2
    exit 99
fi
[ ! -e "$answer.out" ] || cat "$answer.out"
[ ! -e "$answer.err" ] || cat "$answer.err" >&2
[ ! -e "$answer.next" ] || cat "$answer.next" >"$STAND_IN/state"
read -r code <"$answer.code"
exit "$code"
"""
_SYSTEMCTL = '#!/bin/sh\ncat "$STAND_IN/unit" 2>/dev/null || echo inactive\n'
# A transaction, or a boot: the machine has a line "STATE NEXT..." for each.
_MOVE = """\
#!/bin/sh
echo "move" >>"$STAND_IN/log"
read -r state <"$STAND_IN/state"
next=$(sed -n "s/^$state //p" "$STAND_IN/moves")
[ -n "$next" ] || exit 0
rm -f "$STAND_IN/seen"
printf '%s\\n' $next | sed -n 1p >"$STAND_IN/state"
printf '%s\\n' $next | sed 1d >"$STAND_IN/coming"
case $next in *back | *returned) rm -f "$STAND_IN/record.json" ;; esac
"""
_PYTHON = """\
#!/bin/sh
STAND_IN={machine} ANSWERS={answers} PATH={programs}:$PATH
export STAND_IN ANSWERS PATH
exec {python} "$@"
"""
# Where the command itself changes the state.
_NEXT = {
    ("before", "guard_on_--json"): "armed",
    ("armed", "guard_off_--json"): "before",
    ("updated", "guard_on_--json"): "guarded",
    ("judged", "guard_off_--json"): "healthy",
    ("healthy", f"rollback_{UPDATED}_--yes_--json"): "asked",
    ("fallen", f"rollback_{UPDATED}_--yes_--json"): "waiting",
    ("waiting", "undo_--yes_--json"): "updated",
    ("back", "undo_--to-replaced_--yes_--json"): "undoing",
}


def recorded() -> dict[str, list[dict[str, Any]]]:
    """Return the recorded answers by the name of the state."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(ANSWERS.glob("*.json"))}


class Machines:
    """A directory with the answers and the programs, and one for each machine."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._answers = directory / "answers"
        self._programs = directory / "programs"
        self._programs.mkdir(parents=True)
        _program(self._programs / "fs-rollback", _PROGRAM)
        _program(self._programs / "systemctl", _SYSTEMCTL)
        _program(self._programs / "move", _MOVE)
        for state, rows in recorded().items():
            for row in rows:
                self.answer(state, row["words"], row["code"], row["answer"], row["err"])

    def answer(
        self, state: str, words: Sequence[str], code: int, answer: Any, err: str = ""
    ) -> None:
        """Have the command answer so in this state, in place of what was recorded, if it was."""
        folder, name = self._answers / state, "_".join(words)
        folder.mkdir(parents=True, exist_ok=True)
        rows = answer if words[0] == "diff" else [answer]
        texts = [json.dumps(row) for row in rows or [] if row is not None]
        next_state = _NEXT.get((state, name), "")
        parts = {"out": "\n".join(texts), "err": err, "next": next_state, "code": str(code)}
        for suffix, text in parts.items():
            path = folder / f"{name}.{suffix}"
            if text:
                path.write_text(text if suffix == "err" else f"{text}\n", encoding="utf-8")
            else:
                path.unlink(missing_ok=True)

    def words(self, state: str, *words: str) -> Any:
        """Return what was recorded for this."""
        rows = recorded()[state]
        return next(row["answer"] for row in rows if row["words"] == [*words, "--json"])

    def add(self, name: str, state: str) -> Machine:
        return Machine(self, name, state)

    def python(self, machine: Path) -> str:
        """Return the interpreter of a machine: the programs of the machine come first there."""
        return _PYTHON.format(
            machine=machine, answers=self._answers, programs=self._programs, python=sys.executable
        )


class Machine:
    """One of them; `path` is its directory."""

    def __init__(self, machines: Machines, name: str, state: str) -> None:
        self.name = name
        self.path = machines.directory / "machines" / name
        self.path.mkdir(parents=True)
        (self.path / "log").touch()
        self.python = self.path / "python"
        _program(self.python, machines.python(self.path))
        self.go_to(state)
        self.moves()

    @property
    def state(self) -> str:
        return (self.path / "state").read_text().strip()

    def go_to(self, state: str, *coming: str) -> None:
        """Be in a state, and in those that are `coming` when it is asked again."""
        (self.path / "seen").unlink(missing_ok=True)
        (self.path / "state").write_text(f"{state}\n")
        (self.path / "coming").write_text("".join(f"{name}\n" for name in coming))

    def moves(self, *lines: str) -> None:
        """Say what a transaction or a boot leads to, each "STATE NEXT..."."""
        (self.path / "moves").write_text("".join(f"{line}\n" for line in lines))

    def log(self) -> list[str]:
        """Return the command lines since the last time."""
        path = self.path / "log"
        found = path.read_text().splitlines()
        path.write_text("")
        return found

    def inventory_line(self, **variables: str) -> str:
        """Return its line in an inventory."""
        told: Mapping[str, str] = {
            "ansible_connection": "local",
            "ansible_python_interpreter": str(self.python),
            "guarded_update_record": str(self.path / "record.json"),
            **variables,
        }
        return " ".join([self.name, *(f"{key}={value}" for key, value in told.items())])


def install_collection(directory: Path, *, copied: bool = False) -> Path:
    """Put the collection where Ansible looks for it below `directory`; returns its place."""
    place = directory / "ansible_collections/fs_rollback/snapshots"
    place.parent.mkdir(parents=True, exist_ok=True)
    if copied:
        import shutil

        shutil.copytree(COLLECTION, place, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        place.symlink_to(COLLECTION)
    return place


def environment(collections: Path, home: Path, base: Optional[Mapping[str, str]] = None) -> Any:
    """Return what Ansible is run in: nothing of the configuration of who runs the tests."""
    configuration = home / "ansible.cfg"
    configuration.write_text("[defaults]\n")
    return {
        **(base or {}),
        "HOME": str(home),
        "LC_ALL": "C.UTF-8",
        "ANSIBLE_COLLECTIONS_PATH": str(collections),
        "ANSIBLE_CONFIG": str(configuration),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_PIPELINING": "1",
        "ANSIBLE_LOCALHOST_WARNING": "0",
        "ANSIBLE_INVENTORY_UNPARSED_WARNING": "0",
        "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def _program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)
