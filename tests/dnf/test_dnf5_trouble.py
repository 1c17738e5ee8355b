# SPDX-License-Identifier: GPL-2.0-or-later
"""dnf 5 where our own files are broken, in odd surroundings, and with very much to do."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.dnf.holding import add_action, last_end, remove_action
from tests.dnf.scenes import (
    LINE,
    app,
    dnf,
    dnf5,
    installed,
    offer,
    records,
    said,
    wait_for_keepers,
)
from tests.sandbox.machine import Sandbox
from tests.sandbox.rpms import Package

pytestmark = dnf5

_ENTRY = "/usr/libexec/fs-snapshot-dnf5"
_LIBRARY = "/usr/lib/python3/dist-packages"

# What breaks our hook, and what dnf 5 or we say of it.
_BREAKS = {
    "no entry point": (f"mv {_ENTRY} /away", _ENTRY),
    "an entry point that is not executable": (f"chmod -x {_ENTRY}", _ENTRY),
    "no Python": ("mv /usr/bin/python3 /away", _ENTRY),
    "a Python that does not start": ("ln -sf /bin/false /usr/bin/python3", "fs-snapshot.actions"),
    "a Python without a part": ("mv /usr/lib/python3*/json /away", "fs-snapshot"),
    "no btrfsutil": (f"mv {_LIBRARY}/btrfsutil* /away", "fs-snapshot cannot be loaded"),
    "no fs_rollback": (f"mv {_LIBRARY}/fs_rollback /away", "fs-snapshot cannot be loaded"),
    "no adapter": (f"mv {_LIBRARY}/fs_snapshot_dnf5.py /away", "fs-snapshot cannot be loaded"),
    "a file that Python cannot read": (
        f"echo '(' >{_LIBRARY}/fs_rollback/core/packages/changes.py",
        "fs-snapshot cannot be loaded",
    ),
}  # fmt: skip


def test_what_is_broken_stops_dnf_5(sandbox: Sandbox) -> None:
    offer(sandbox, app("1"))
    wrong = {}
    for name, (script, seen) in _BREAKS.items():
        with _broken(sandbox, script):
            done = sandbox.run(["dnf", "--assumeyes", "install", "app"], check=False)
            told = (done.returncode, seen in said(done), installed(sandbox))
            if told != (1, True, ""):
                wrong[name] = (*told, said(done)[-700:])
    assert wrong == {}
    assert records(sandbox) == {}
    assert sandbox.output("dnf", "history", "list") == "", "there is no row"
    assert LINE in dnf(sandbox, "install", "app").stderr
    assert last_end(sandbox) == ("done", 1)


@contextmanager
def _broken(sandbox: Sandbox, script: str) -> Iterator[None]:
    """Run a script, and have all as before at the end."""
    save = f"cp -a {_ENTRY} {_LIBRARY} /usr/bin/python3 /saved"
    sandbox.run(["sh", "-ec", f"mkdir /away /saved; {save}; {script}"])
    try:
        yield
    finally:
        sandbox.run(
            [
                "sh",
                "-ec",
                f"""rm -rf {_ENTRY} {_LIBRARY} /usr/bin/python3
                cp -a /saved/python3 /usr/bin; cp -a /saved/fs-snapshot-dnf5 {_ENTRY}
                cp -a /saved/dist-packages {_LIBRARY}
                [ ! -d /away/json ] || mv /away/json /usr/lib/python3.*/
                rm -r /away /saved""",
            ]
        )


# How dnf 5 is started: by a shell, which is told what to start.
_SURROUNDINGS = {
    "as ever": "exec dnf -y install app",
    "another language": "export LANG=de_DE.UTF-8 LC_ALL=de_DE.UTF-8; exec dnf -y install app",
    "no locale": "unset LC_ALL LANG; exec dnf -y install app",
    "no environment": "exec env -i dnf -y install app",
    "Python's variables": "export PYTHONPATH=/bad PYTHONHOME=/bad PYTHONSTARTUP=/bad/x.py"
    " PYTHONINSPECT=1 PYTHONVERBOSE=1; exec dnf -y install app",
    "modules in the directory": "cd /bad; exec dnf -y install app",
    "a directory that is gone": "mkdir /gone; cd /gone; rmdir /gone; exec dnf -y install app",
    "umask 077": "umask 077; exec dnf -y install app",
    "umask 000": "umask 000; exec dnf -y install app",
    "no stdin": "exec dnf -y install app <&-",
    "no stderr": "exec dnf -y install app 2>&-",
    "a full stderr": "exec dnf -y install app 2>/dev/full",
    "ignored signals": "trap '' INT TERM HUP CHLD; exec dnf -y install app",
    "few files": "ulimit -n 64; exec dnf -y install app",
}


def test_surroundings(sandbox: Sandbox) -> None:
    offer(sandbox, app("1"))
    sandbox.path("/bad").mkdir()
    for name in ("json", "os", "fs_rollback", "btrfsutil", "sqlite3"):
        sandbox.path(f"/bad/{name}.py").write_text("raise SystemExit('the wrong one')\n")
    wrong = {}
    for number, (name, script) in enumerate(_SURROUNDINGS.items()):
        done = sandbox.run(["sh", "-c", script], check=False)
        wait_for_keepers(sandbox)
        transactions = [r["transaction"] for r in records(sandbox).values()]
        ends = [t["outcome"] for t in transactions]
        told = (done.returncode, installed(sandbox), ends)
        if told != (0, "1", ["done"] * (number + 1)):
            wrong[name] = (*told, said(done)[-700:])
            break
        assert transactions[-1]["packages"][0]["name"] == "app"
        dnf(sandbox, sandbox.engine.without, "remove", "app")
    assert wrong == {}
    with sandbox.top() as top:
        modes = {stat.S_IMODE(p.stat().st_mode) for p in (top / "fs-snapshots").glob("*.json")}
        assert stat.S_IMODE((top / "fs-snapshots").stat().st_mode) == 0o700
    assert len(modes) == 1, "whatever the umask"


@pytest.mark.rare
def test_500_packages(sandbox: Sandbox) -> None:
    """What dnf 5 answers to the hook is longer than a pipe holds."""
    offer(sandbox, Package("many", "1", more=499), Package("many", "2", more=499))
    for command, expected in (
        (("install", "many*-1-1"), ("install", None, "1-1")),
        (("upgrade",), ("upgrade", "1-1", "2-1")),
        (("remove", "many*"), ("remove", "2-1", None)),
    ):
        assert dnf(sandbox, *command).stderr.count(LINE) == 1
        transaction = list(records(sandbox).values())[-1]["transaction"]
        packages = transaction["packages"]
        assert len({p["name"] for p in packages}) == len(packages) == 500
        assert {(p["action"], p["from"], p["to"]) for p in packages} == {expected}
        assert transaction["outcome"] == "done"


def test_a_full_disk(sandbox: Sandbox) -> None:
    """Full when our hook begins: dnf 5 itself does not come that far on a disk that is full."""
    offer(sandbox, app("1"), app("2"))
    dnf(sandbox, "install", "app-1")
    add_action(sandbox, _FILL, name="aa-other")
    free = os.statvfs(sandbox.path("/"))
    most = free.f_bavail * free.f_frsize - (64 << 20)
    sandbox.run(["fallocate", f"--length={most}", "/most"])
    done = dnf(sandbox, "upgrade", code=1)
    sandbox.run(["rm", "/most", "/ballast"])
    assert "of space for files, and" in done.stderr, "dnf 5 tells the size of what comes"
    assert "Nothing was changed" in done.stderr
    assert installed(sandbox) == "1"
    remove_action(sandbox, name="aa-other")
    dnf(sandbox, "upgrade")
    assert last_end(sandbox) == ("done", 2)


def test_a_root_that_is_read_only(sandbox: Sandbox) -> None:
    """dnf 5 itself stops, before any hook."""
    offer(sandbox, app("1"))
    script = "mount -o remount,ro,bind / && exec dnf --assumeyes install app"
    done = sandbox.run(["unshare", "--mount", "sh", "-c", script], check=False)
    assert done.returncode == 1
    assert "read-only" in done.stderr
    assert records(sandbox) == {}
    assert installed(sandbox) == ""


_FILL = """
for size in 1M 64k 4k; do
    dd if=/dev/urandom of=/ballast bs=$size oflag=append conv=notrunc status=none 2>/dev/null
done
sync --file-system /
"""
