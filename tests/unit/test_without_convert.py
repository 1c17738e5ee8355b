# SPDX-License-Identifier: GPL-2.0-or-later
"""The program without its wing, as it is where the package fs-rollback-convert is not installed.

All of it runs in a copy of the checkout that has no folder convert/. Tests of the wing are in files
named test_convert_*, and left out.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fs_rollback.cli.arguments import COMMANDS

CHECKOUT = Path(__file__).parents[2]
_COPIED = ("etc", "packaging", "plugin", "rollback", "tests", "setup.cfg", "CHANGELOG.md")
# What reads the whole checkout, the wing among it, and what copies it.
# fmt: off
_OF_ALL = {"test_architecture.py", "test_linters.py", "test_publishing.py", "test_readme.py",
           Path(__file__).name}
# fmt: on
_IMPORTED = re.compile(r"^(?:from|import) fs_rollback\.?(\w*)", re.MULTILINE)
_MAIN = "import sys; from fs_rollback.cli.main import main; sys.exit(main())"
_EVERY_HELP = """
import sys
from fs_rollback.cli.main import main
for name in sys.argv[1:]:
    try:
        main([name, "--help"])
    except SystemExit as end:
        assert end.code == 0, name
"""
# btrfsutil is the distribution's: here it is about what the modules import of each other.
_IMPORT_ALL = """
import importlib, pkgutil, sys, types
sys.modules.setdefault("btrfsutil", types.ModuleType("btrfsutil"))
import fs_rollback
sys.modules["btrfsutil"].__getattr__ = lambda name: OSError
found = [m.name for m in pkgutil.walk_packages(fs_rollback.__path__, "fs_rollback.")]
for name in found:
    importlib.import_module(name)
print(len(found))
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout without the wing."""
    tree = tmp_path_factory.mktemp("copy")
    for name in _COPIED:
        if (CHECKOUT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(CHECKOUT / name, tree / name, ignore=ignored)
        elif (CHECKOUT / name).exists():
            shutil.copy(CHECKOUT / name, tree)
    shutil.rmtree(tree / "rollback/fs_rollback/convert")
    return tree


def _python(copy: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (sys.executable, *arguments),
        cwd=copy,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "COLUMNS": "80",
             "PYTHONPATH": f"{copy / 'rollback'}:{copy}", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip


def _command(copy: Path, *words: str) -> tuple[int, str, str]:
    done = _python(copy, "-c", _MAIN, *words)
    return done.returncode, done.stdout, done.stderr


def test_every_other_command_prints_its_help(copy: Path) -> None:
    done = _python(copy, "-c", _EVERY_HELP, *COMMANDS)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.findall(r"^usage: fs-rollback (\w+) ", done.stdout, re.MULTILINE) == [*COMMANDS]


def test_the_help_lists_all_and_says_where_the_wing_is(copy: Path) -> None:
    code, out, err = _command(copy, "--help")
    assert (code, err) == (0, "")
    assert re.findall(r"^    (\w+) ", out, re.MULTILINE) == [*COMMANDS, "convert", "help"]
    assert "in the package fs-rollback-convert: convert an ext4 root" in out


@pytest.mark.parametrize(
    "words", [(), ("check",), ("finish", "--yes"), ("--help",), ("bogus",)], ids=" ".join
)
def test_convert_names_its_package(copy: Path, words: tuple[str, ...]) -> None:
    code, out, err = _command(copy, "convert", *words)
    assert (code, out) == (2, "")
    first, second = err.splitlines()
    assert first == (
        "fs-rollback: 'fs-rollback convert' is in the package fs-rollback-convert, which is not"
        " installed"
    )
    assert second == "  Run: dnf install fs-rollback-convert"


def test_folders_that_are_left_of_the_wing_are_none(copy: Path, tmp_path: Path) -> None:
    """As they stay behind where another Python has compiled what was in them."""
    shutil.copytree(copy / "rollback", tmp_path / "rollback")
    (tmp_path / "rollback/fs_rollback/convert/commands/__pycache__").mkdir(parents=True)
    code, _, err = _command(tmp_path, "convert", "check")
    assert code == 2
    assert "fs-rollback-convert, which is not installed" in err


@pytest.mark.parametrize("name", ["abort", "check", "prepare"])
def test_a_wing_that_is_there_in_part_is_none(copy: Path, tmp_path: Path, name: str) -> None:
    """As while its package is installed, updated or removed; nothing else may end over that."""
    shutil.copytree(copy / "rollback", tmp_path / "rollback")
    wing = "rollback/fs_rollback/convert"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(CHECKOUT / wing, tmp_path / wing, ignore=ignored)
    assert "finish" in _command(tmp_path, "convert", "--help")[1]
    (tmp_path / wing / f"commands/{name}.py").unlink()
    code, out, err = _command(tmp_path, "--help")
    assert (code, err) == (0, "")
    assert "in the package fs-rollback-convert: convert an ext4 root" in out
    code, _, err = _command(tmp_path, "bogus")
    assert (code, err[:26]) == (2, "usage: fs-rollback COMMAND")
    code, _, err = _command(tmp_path, "convert", "check")
    assert code == 2
    assert "fs-rollback-convert, which is not installed" in err


def test_every_module_is_imported(copy: Path) -> None:
    done = _python(copy, "-c", _IMPORT_ALL)
    assert done.returncode == 0, done.stderr
    files = list((copy / "rollback").rglob("*.py"))
    assert int(done.stdout) == len(files) - 1, "all but the package itself"


def _may_notice(path: Path) -> bool:
    """Whether a test looks at more than core, which imports nothing that the wing could be in."""
    rooms = set(_IMPORTED.findall(path.read_text()))
    return rooms - {"core", "errors"} != set() or "tests.unit.manual" in path.read_text()


def test_the_tests_of_the_rest_pass(copy: Path) -> None:
    every = sorted((copy / "tests/unit").glob("test_*.py"))
    wing = {path for path in every if path.name.startswith("test_convert_")}
    assert len(wing) > 5
    rest = [p for p in every if p not in wing and p.name not in _OF_ALL and _may_notice(p)]
    assert len(rest) > 5
    options = ("-q", "-p", "no:cacheprovider", "--tb=short", "-c", "/dev/null", "--rootdir=.")
    names = (str(path.relative_to(copy)) for path in rest)
    done = _python(copy, "-m", "pytest", *options, "--noconftest", *names)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"[0-9]{3} passed", done.stdout), done.stdout
