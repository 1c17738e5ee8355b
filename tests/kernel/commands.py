# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs the command as its users do: a process of its own, with or without a terminal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional

from tests.terminal import Terminal

_CHECKOUT = Path(__file__).parents[2]
_LAUNCHER = (
    f"import sys; sys.path.append({os.fspath(_CHECKOUT)!r});"
    " from tests.kernel import running; running.install();"
    " from fs_rollback.cli.main import main; sys.exit(main())"
)
_TIMEOUT_S = 120.0
# For one that gives up root's rights: Python and the checkout may lie where nobody else may go.
LOAD_ALL = (
    "import importlib, pkgutil, re, shlex, fs_rollback; [importlib.import_module(found.name) for"
    " found in pkgutil.walk_packages(fs_rollback.__path__, 'fs_rollback.')];"
)


class Done(NamedTuple):
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one object on its standard output."""
        data = json.loads(self.out)
        assert isinstance(data, dict)
        return data

    @property
    def sentence(self) -> str:
        """The first line of a complaint, without the program's name."""
        return self.err.partition("\n")[0].partition("fs-rollback: ")[2]

    def expect_refusal(self, *parts: str, code: int = 3) -> None:
        """Check that it was refused with a sentence and a hint that have these parts."""
        assert self.code == code, self
        assert self.out == ""
        lines = self.err.splitlines()
        assert lines[0].startswith("fs-rollback: ")
        assert lines[-1].startswith("  ")
        for part in parts:
            assert part in self.err


def arguments(root: Path, words: Sequence[str]) -> list[str]:
    """Return what starts the command; a warning in it is an error."""
    options = ("-W", "error", "-c", _LAUNCHER)
    has_action = words[0] == "convert" and len(words) > 1 and not words[1].startswith("-")
    count = 2 if has_action else 1
    return [sys.executable, *options, *words[:count], "--root", str(root), *words[count:]]


def environment(**extra: str) -> dict[str, str]:
    """Return a small one, the same wherever the tests run."""
    names = ("PATH", "HOME", "TMPDIR", "CACHE_DIRECTORY")
    found = {name: os.environ[name] for name in names if name in os.environ}
    found["PATH"] = f"{found.get('PATH', '')}:/usr/sbin:/sbin"
    found["PYTHONPATH"] = str(_CHECKOUT / "rollback")
    return {**found, "LC_ALL": "C.UTF-8", "TZ": "UTC", **extra}


def start(
    root: Path, *words: str, env: Optional[Mapping[str, str]] = None
) -> subprocess.Popen[str]:
    """Start the command without a terminal and leave it to the caller."""
    return subprocess.Popen(
        arguments(root, words),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(**(env or {})),
        cwd="/",
    )


def fs_rollback(root: Path, *words: str, env: Optional[Mapping[str, str]] = None) -> Done:
    """Run the command without a terminal."""
    process = start(root, *words, env=env)
    out, err = process.communicate(timeout=_TIMEOUT_S)
    assert "Traceback" not in err, err
    return Done(process.returncode, out, err)


def done(root: Path, *words: str) -> Done:
    """Run a command that has to succeed."""
    ended = fs_rollback(root, *words)
    assert ended.code == 0, ended
    return ended


def on_terminal(root: Path, *words: str, env: Optional[Mapping[str, str]] = None) -> Terminal:
    """Start the command on a terminal of its own."""
    return Terminal(arguments(root, words), environment(**{"TERM": "dumb", **(env or {})}))
