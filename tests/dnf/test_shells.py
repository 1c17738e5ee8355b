# SPDX-License-Identifier: GPL-2.0-or-later
"""`shell` and `restore` on a machine that runs, with its real dnf and rpm."""

from __future__ import annotations

from tests.dnf.scenes import app, both, dnf, installed, offer, said, snapshots
from tests.sandbox.machine import Sandbox


def upgraded(sandbox: Sandbox) -> str:
    """Give a machine with app-2; returns the name of the snapshot that has app-1."""
    for version in ("1", "2"):
        offer(sandbox, app(version))
        dnf(sandbox, "install" if version == "1" else "upgrade", "app")
    return str(snapshots(sandbox)[-1]["name"])


@both
def test_a_transaction_in_a_shell_needs_and_takes_no_snapshot(sandbox: Sandbox) -> None:
    name = upgraded(sandbox)
    before = snapshots(sandbox)
    assert "app-1-" in sandbox.output("fs-rollback", "shell", name, "--", "rpm", "-q", "app")
    script = "dnf -y remove app && ! rpm -q app && ! fs-rollback list"
    ended = sandbox.run(["fs-rollback", "shell", name, "--", "sh", "-c", script], check=False)
    assert ended.returncode == 0, ended
    assert "snapshotting" not in said(ended)
    assert "no snapshot" not in said(ended), "of a container nobody has to hear"
    assert snapshots(sandbox) == before
    assert installed(sandbox) == "2"


def test_what_a_transaction_has_changed_comes_back(sandbox: Sandbox) -> None:
    name = upgraded(sandbox)
    shown = sandbox.output("fs-rollback", "restore", name, "/usr/bin/app", "/etc/fstab", "--yes")
    assert shown.count("Warning") == 2
    assert "Warning: this includes files of the package app\n" in shown
    assert "Warning: the next boot depends on /etc/fstab." in shown
    assert sandbox.output("app") == "1\n"
    assert "/usr/bin/app" in sandbox.run(["rpm", "-V", "app"], check=False).stdout
    listed = sandbox.output("fs-rollback", "restore", name, "/usr/bin", "--dry-run", "--json")
    assert '"app"' in listed
    dnf(sandbox, "reinstall", "app")
    assert sandbox.output("app") == "2\n"
