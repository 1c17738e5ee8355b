# SPDX-License-Identifier: GPL-2.0-or-later
"""What others than root have a hand in when root runs the command: see SECURITY.md."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.kernel.commands import done, fs_rollback, on_terminal
from tests.kernel.machine import Machine
from tests.need import need


@pytest.mark.parametrize(
    ("linked", "mode", "owner", "group"),
    [(False, 0o646, 0, 0), (False, 0o664, 0, 1234), (False, 0o644, 1234, 0), (True, 0o666, 0, 0)],
)
def test_a_configuration_that_others_can_change(
    named: Machine, linked: bool, mode: int, owner: int, group: int
) -> None:
    """They could have files of root stay or go back, or updates run without a snapshot."""
    named.upgrade()
    path = named.root / "etc/fs-rollback.conf"
    place = named.root / "opt/other.conf" if linked else path
    named.write(named.root, str(place.relative_to(named.root)), "keep = /opt\n")
    if linked:
        path.symlink_to("/opt/other.conf")
    os.chown(place, owner, group)
    place.chmod(mode)
    refused = fs_rollback(named.root, "rollback", "--dry-run")
    refused.expect_refusal("can be changed by others than root", "chmod go-w", code=2)
    os.chown(place, 0, 0)
    place.chmod(0o664)
    done(named.root, "rollback", "--dry-run")


def test_the_pager_of_root_starts_nothing(named: Machine, tmp_path: Path) -> None:
    """Who may run `sudo fs-rollback diff`, and nothing else, gets no shell from less(1)."""
    need("less")
    proof = tmp_path / "proof"
    name = named.take()
    for number in range(100):
        named.write(named.root, f"opt/{number}", "new\n")
    env = {"TERM": "xterm", "PAGER": "less", "LESSOPEN": f"|touch {proof}", "LESSSECURE": ""}
    terminal = on_terminal(named.root, "diff", name, "--all", env=env)
    terminal.read_until("opt/1")
    terminal.type(f"!touch {proof}\n")
    time.sleep(0.5)
    terminal.type("\nqq")
    terminal.end()
    assert not proof.exists()


_HOSTILE = {
    "COLUMNS": "-1",
    "LINES": "9" * 4000,
    "SUDO_USER": "a\x1b[2J\nfs-rollback: forged",
    "SUDO_UID": "../..",
    "TZ": ":/etc/shadow",
    "LC_ALL": "../../x",
    "LANGUAGE": "%n%s",
    "TERM": "../../x",
    "NO_COLOR": "",
    "BTRFS_OUTPUT_VERBOSE": "-1",
    "SYSTEMD_PAGER": "touch proof",
    "SYSTEMD_LOG_LEVEL": "debug",
    "_ARC_DEBUG": "1",
}


def test_variables_that_somebody_else_has_set(named: Machine, tmp_path: Path) -> None:
    """sudo(8) keeps few of them; none is taken for a path, a command or a line."""
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    env = {**_HOSTILE, "TMPDIR": str(hidden)}
    os.chown(hidden, 1234, 1234)
    name = named.upgrade()
    for words in ("list", "status", "show latest", "diff latest", "log", "create", "prune"):
        ended = fs_rollback(named.root, *words.split(), env=env)
        assert ended.code in (0, 1), ended
        said = ended.out + ended.err
        assert all(c.isprintable() or c == "\n" for c in said), repr(said)
        assert not any(line.startswith("fs-rollback: forged") for line in said.splitlines())
    assert not list(hidden.iterdir())
    assert (named.top / "fs-snapshots" / name).is_dir()
