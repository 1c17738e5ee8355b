# SPDX-License-Identifier: GPL-2.0-or-later
"""One command, one file: its help, its options and what it does stand in it, side by side."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from fs_rollback.cli.arguments import COMMANDS
from fs_rollback.cli.command import Command

PACKAGE = Path(__file__).parents[2] / "rollback/fs_rollback"
FILES = {name: PACKAGE / f"cli/{where.replace('.', '/')}.py" for name, where in COMMANDS.items()}
ROOMS = ("cli/reading", "cli/snapshots", "cli/access", "cli/rollback", "cli/guard")
_WORDS = {
    "status": "status",
    "pin": "pin latest",
    "rollback": "rollback",
    "settle": "settle --at-boot",
}


def _defined(path: Path) -> list[str]:
    """Return the public names that a file defines, in their order."""
    names = []
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef):
            names.append(node.name)
        elif isinstance(node, ast.Assign):
            names += [ast.unparse(target) for target in node.targets]
    return [name for name in names if not name.startswith("_")]


def expect_convention(name: str, path: Path) -> Command:
    """Check that a file holds a command as all do, and return that."""
    assert path.is_file(), f"{name} has no file"
    defined = _defined(path)
    assert defined[0] == "arguments"
    assert "run" in defined
    assert defined[-1] == "COMMAND"
    words = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    module = import_module(f"fs_rollback.{words}")
    found = module.COMMAND
    assert isinstance(found, Command)
    assert (found.arguments, found.run) == (module.arguments, module.run)
    assert (inspect.getdoc(module) or "").startswith(f"`{name}`: ")
    assert "\n" not in found.help
    assert not found.help.endswith(".")
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_a_file_of_its_own(name: str) -> None:
    found = expect_convention(name, FILES[name])
    assert found.reads == (FILES[name].parent.name == "reading")


def test_each_command_that_changes_something_has_a_test_of_its_trace() -> None:
    text = (Path(__file__).parents[1] / "kernel/test_trace.py").read_text()
    changing = [name for name, path in FILES.items() if path.parent.name != "reading"]
    assert [name for name in changing if f'"{name}"' not in text] == []


def holds_command(path: Path) -> bool:
    """Whether a file defines a command."""
    return "COMMAND" in _defined(path)


def test_no_file_holds_a_command_that_nobody_can_give() -> None:
    held = {path for room in ROOMS for path in (PACKAGE / room).glob("*.py") if holds_command(path)}
    assert held == set(FILES.values())
    assert len(held) == len(COMMANDS)


@pytest.mark.parametrize("name", _WORDS)
def test_a_command_imports_no_other(name: str) -> None:
    """Nor the wing: a machine converts its root once, and lists its snapshots every day."""
    program = (
        f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r});"
        " from fs_rollback.cli.main import main\n"
        "try: main(sys.argv[1:])\n"
        "except BaseException: pass\n"
        "print(*(m for m in sys.modules if m.startswith('fs_rollback.')))"
    )
    words = [*_WORDS[name].split(), "--root", "/nowhere"]
    command = (sys.executable, "-c", program, *words)
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    commands = {f"fs_rollback.cli.{where}" for where in COMMANDS.values()}
    assert loaded & commands == {f"fs_rollback.cli.{COMMANDS[name]}"}
    assert not any(module.startswith("fs_rollback.convert") for module in loaded)
