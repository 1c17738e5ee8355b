# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads the source and fails on any import, size or call that the design does not allow."""

from __future__ import annotations

import ast
import functools
import sys
import tokenize
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
PACKAGE = CHECKOUT / "rollback/fs_rollback"
PLUGIN = CHECKOUT / "plugin"
FILES = sorted([*PACKAGE.rglob("*.py"), *PLUGIN.rglob("*.py")])
MOST_LINES = 400
MOST_FUNCTION_LINES = 60

# The rooms of the package, from the bottom up: each imports itself and those before it only. A name
# is a folder, or a single file. What is beside them all (the version) anybody may import.
ROOMS = (
    "errors",
    "core/progress",
    "core/columns",
    "core/closest",
    "core/formats",
    "core/snapshots",
    "core/packages",
    "core/comparison",
    "core/space",
    "core/loader",
    "core/boot",
    "core/guard",
    "core/rollback",
    "config",
    "report",
    "system/linux",
    "system/machine",
    "system/loader",
    "system/store",
    "system/root",
    "system/comparison",
    "system/execute",
    "system/packages",
    "system/space",
    "system/snapshots",
    "system/access",
    "system/pending",
    "system/guard",
    "system/check",
    "system/rollback",
    "system/hooks",
    "cli/screen",
    "cli",
    "cli/guard",
    "cli/comparison",
    "cli/reading",
    "cli/snapshots",
    "cli/access",
    "cli/rollback",
    "convert/disk",
    "convert/plan",
    "convert/machine",
    "convert/check",
    "convert/torn",
    "convert/prepare",
    "convert/run",
    "convert/finish",
    "convert/commands",
)
# Only a command may leave the mount namespace: there is no way back.
MAY_LEAVE = (
    "cli/main.py",
    "system/access/throw_away.py",
    "convert/commands/run.py",
    "convert/disk/looking_at.py",
)
# Of two rooms neither of which is below the other in the house, whatever the order above says.
APART = {"plugin": ("cli", "convert"), "system": ("report",), "report": ("config",)}
LEAVING = (
    "system/root/offline.py",
    "system/linux/namespaces.py",
    "system/linux/syscalls.py",
)
MOST_FILES, FEWEST_FILES = 10, 3
# Who may import what is not ours; everything else comes from Python itself.
ONLY = {
    "argcomplete": {"cli/completion.py"},
    "tqdm": {"cli/terminal.py"},
    "btrfsutil": {"system/linux/syscalls.py", "system/linux/btrfs.py"},
    "ctypes": {
        "system/linux/namespaces.py",
        "system/linux/syscalls.py",
        "system/linux/tree_search.py",
    },
    "fcntl": {
        "system/linux/syscalls.py",
        "system/linux/btrfs.py",
        "system/linux/tree_search.py",
        "system/linux/chattr.py",
    },
    "subprocess": {"system/linux/process.py"},
    "tabulate": {"report.py"},
    "dnf": {"dnf4/fs_snapshot.py", "dnf4/fs_snapshot_dnf4.py"},
    "libdnf": {"dnf4/fs_snapshot_dnf4.py"},
    "fs_snapshot_dnf4": {"dnf4/fs_snapshot.py"},
    "fs_snapshot_dnf5": {"dnf5/entry.py"},
}
NO_IO_IN_CORE = {"time", "io", "pathlib", "shutil", "socket", "tempfile", "glob", "random", "sys"}
PURE_OS = {"os.fsencode", "os.fsdecode"}
# Where an error ends that nobody has caught: it is told to people there.
LAST_RESORT = "cli/main.py"
# A child that is forked there must not go on as a second command.
FORKS = "system/linux/namespaces.py"
IMPURE_CALLS = {"open", "print", "input", "exec", "eval", "__import__"}
CLOCKS = {"now", "utcnow", "today"}


def _name(path: Path) -> str:
    return str(path.relative_to(PACKAGE if PACKAGE in path.parents else PLUGIN))


def _room(path: Path) -> str:
    """Return the room of a file; "" for what is beside them all, "plugin" for the adapters."""
    if PACKAGE not in path.parents:
        return "plugin"
    return _room_of(".".join(path.relative_to(PACKAGE).with_suffix("").parts))


def _room_of(module: str) -> str:
    """Return the room of a dotted name in the package: the deepest one that fits."""
    fitting = [r for r in ROOMS if f"{module}.".startswith(f"{r.replace('/', '.')}.")]
    return max(fitting, key=len, default="")


@functools.cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def _imports(path: Path, nodes: Iterable[ast.AST] | None = None) -> Iterator[str]:
    """Give the absolute name of everything that a file imports, wherever in it.

    `nodes` are those of its nodes that count, if not all do.
    """
    parts = ["fs_rollback", *path.relative_to(PACKAGE).parts] if PACKAGE in path.parents else []
    for node in ast.walk(_tree(path)) if nodes is None else nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(parts[: len(parts) - node.level]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            yield from (f"{module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_imports_point_down_only(path: Path) -> None:
    room = _room(path)
    allowed = ROOMS if room == "plugin" else ROOMS[: ROOMS.index(room) + 1] if room else ()
    apart = APART.get(room.partition("/")[0], ())
    for name in _imports(path):
        if name.partition(".")[0] != "fs_rollback":
            continue
        led = _room_of(name.partition(".")[2])
        assert not led or (led in allowed and not led.startswith(apart or "-")), name


def test_nothing_outside_the_wing_imports_it() -> None:
    wing = {path for path in FILES if _room(path).startswith("convert/")}
    assert len(wing) > 50, "the rule sees the wing"
    for path in set(FILES) - wing:
        led = {name for name in _imports(path) if name.startswith("fs_rollback.convert")}
        assert led == set() or path == PACKAGE / "convert/__init__.py", path


@pytest.mark.parametrize("room", [r for r in ROOMS if (PACKAGE / r).is_dir()])
def test_a_room_has_few_files_and_says_what_it_is_for(room: str) -> None:
    files = [path.name for path in (PACKAGE / room).glob("*.py") if path.name != "__init__.py"]
    assert FEWEST_FILES <= len(files) <= MOST_FILES, sorted(files)
    tree = _tree(PACKAGE / room / "__init__.py")
    sentence = ast.get_docstring(tree) or ""
    assert len(tree.body) == 1
    assert sentence.endswith((".", "?"))
    assert "\n" not in sentence


def _where_errors_end(tree: ast.Module) -> Iterator[range]:
    """Give the lines of each handler that does not always raise, and of each suppress().

    The line above is one of them; for a suppress() that below too.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            inside = [inner for statement in node.body for inner in ast.walk(statement)]
            ends = any(isinstance(inner, (ast.Return, ast.Continue, ast.Break)) for inner in inside)
            if ends or not isinstance(node.body[-1], ast.Raise):
                yield range(node.lineno - 1, (node.end_lineno or node.lineno) + 1)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress"):
            yield range(node.lineno - 1, node.lineno + 2)


@pytest.mark.parametrize("path", [path for path in FILES if _name(path) != LAST_RESORT], ids=_name)
def test_where_an_error_ends_a_comment_says_why(path: Path) -> None:
    """Unknown is not empty: why it is right to go on without the answer is said on the spot."""
    with path.open("rb") as file:
        tokens = list(tokenize.tokenize(file.readline))
    said = {token.start[0] for token in tokens if token.type == tokenize.COMMENT}
    silent = [lines for lines in _where_errors_end(_tree(path)) if said.isdisjoint(lines)]
    assert silent == []


def test_the_rule_about_errors_sees_them() -> None:
    code = (
        "try:\n    a()\nexcept OSError:\n    b = None\n"
        "try:\n    a()\nexcept OSError as e:\n    if e.errno:\n        return\n    raise\n"
        "try:\n    a()\nexcept OSError as e:\n    raise B from e\n"
        "with contextlib.suppress(OSError):\n    a()\n"
    )
    found = list(_where_errors_end(ast.parse(code)))
    assert found == [range(2, 5), range(6, 11), range(14, 17)]


def _executed(tree: ast.AST) -> Iterator[ast.AST]:
    """Give every node but those that only a type checker reads."""
    yield tree
    children = list(ast.iter_child_nodes(tree))
    if isinstance(tree, ast.If) and ast.unparse(tree.test).endswith("TYPE_CHECKING"):
        children = list(tree.orelse)
    for child in children:
        yield from _executed(child)


def _arrows() -> dict[str, set[str]]:
    """Return which modules of the package each of them imports, at once or when it is called."""
    modules = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = ["fs_rollback", *path.relative_to(PACKAGE).with_suffix("").parts]
        modules[".".join(part for part in parts if part != "__init__")] = path
    found = {}
    for module, path in modules.items():
        names = ((n, n.rpartition(".")[0]) for n in _imports(path, _executed(_tree(path))))
        targets = {next((n for n in tried if n in modules), module) for tried in names}
        found[module] = targets - {module}
    return found


def _circles(arrows: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """Return what is left when all is taken away that leads nowhere, or that nothing leads to."""
    left = {module: set(targets) for module, targets in arrows.items()}
    while True:
        led_to = set().union(*left.values())
        kept = {module for module in left if left[module] and module in led_to}
        if kept == set(left):
            return left
        left = {module: left[module] & kept for module in kept}


def test_no_imports_go_in_a_circle() -> None:
    assert _circles(_arrows()) == {}


def test_the_rule_sees_circles_and_late_imports() -> None:
    arrows = _arrows()
    store = "fs_rollback.system.store.store"
    assert "fs_rollback.system.store.top_level" in arrows[store], "imported in a function"
    assert "fs_rollback.errors" in arrows["fs_rollback.convert.check.gather"]
    assert "fs_rollback.system.pending.settle" in arrows["fs_rollback.cli.rollback.settle"]
    tree = ast.parse("if TYPE_CHECKING:\n    import a\nelse:\n    import b")
    seen = [ast.unparse(node) for node in _executed(tree) if isinstance(node, ast.Import)]
    assert seen == ["import b"]
    circle = {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set()}
    assert _circles(circle) == {"b": {"c"}, "c": {"b"}}


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_what_is_foreign_is_imported_in_one_place(path: Path) -> None:
    known = getattr(sys, "stdlib_module_names", None)  # Python 3.10 and later
    for name in _imports(path):
        first = name.split(".")[0]
        if first in ONLY:
            assert _name(path) in ONLY[first], f"{_name(path)} imports {name}"
        elif known is not None:
            assert first in {*known, "fs_rollback"}, f"{_name(path)} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_only_the_command_leaves_the_mount_namespace(path: Path) -> None:
    """There is no way back, and in dnf's process that would take the machine's mounts from it."""
    imported = any(
        f"{name}.".startswith("fs_rollback.system.root.offline.") for name in _imports(path)
    )
    assert imported == (_name(path) in MAY_LEAVE)
    if _name(path) not in LEAVING:
        assert "unshare" not in path.read_text()


CORE = [path for path in FILES if _room(path).startswith("core/")]


@pytest.mark.parametrize("path", CORE, ids=_name)
def test_the_core_is_pure(path: Path) -> None:
    imported = {name.split(".")[0] for name in _imports(path)}
    assert imported & NO_IO_IN_CORE == set()
    assert not any(name.startswith("os.") for name in _imports(path)), "from os import ..."
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Attribute):
            spelled = ast.unparse(node)
            assert not spelled.startswith("os.") or spelled in PURE_OS, spelled
            assert node.attr not in CLOCKS, spelled
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in IMPURE_CALLS, node.func.id


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_only_the_command_line_prints_and_exits(path: Path) -> None:
    if _room(path).startswith(("cli", "plugin", "convert/commands")):
        return
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called == "os._exit" and _name(path) == FORKS:
                continue
            assert called not in ("print", "input", "sys.exit", "os._exit", "exit", "quit"), called


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_no_shell(path: Path) -> None:
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Call):
            assert ast.unparse(node.func) not in ("os.system", "os.popen"), path
            assert not any(keyword.arg == "shell" for keyword in node.keywords), path


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_sizes(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MOST_LINES
    for node in ast.walk(_tree(path)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= MOST_FUNCTION_LINES, f"{node.name} has {length} lines"


def test_tests_are_modules_of_the_same_size() -> None:
    for path in (CHECKOUT / "tests").rglob("*.py"):
        assert len(path.read_text().splitlines()) <= MOST_LINES, path


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_every_file_names_its_licence_and_says_what_it_is(path: Path) -> None:
    text = path.read_text()
    first = text.partition("\n")[2] if text.startswith("#!") else text
    assert first.startswith("# SPDX-License-Identifier: GPL-2.0-or-later\n")
    assert ast.get_docstring(_tree(path))


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_nothing_happens_at_import(path: Path) -> None:
    for node in _tree(path).body:
        assert not isinstance(node, (ast.For, ast.While, ast.With)), ast.unparse(node)
        is_call = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
        assert not is_call, ast.unparse(node)


def test_the_rules_see_what_they_should() -> None:
    # A rule that finds no file, or no import, keeps nobody from anything.
    names = {_name(path) for path in FILES}
    allowed = {name for places in ONLY.values() for name in places}
    assert allowed <= names
    assert {"fs_rollback.core.snapshots.record.Record", "tabulate.tabulate"} <= set(
        _imports(PACKAGE / "report.py")
    )
    assert {_room(path) for path in FILES} == {*ROOMS, "plugin", ""}
    assert {_room(p) for p in PACKAGE.rglob("*.py") if p.name != "__init__.py"} == set(ROOMS)
    assert len(CORE) >= 10
