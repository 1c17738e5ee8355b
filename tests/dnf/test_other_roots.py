# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine that was booted into something else than its own root: what is said, and the way back.

Another tool's snapshot, one that somebody named on the kernel command line, with and without an
overlay in memory. Another subvolume is booted as its boot loader would: by the command line.
"""

from __future__ import annotations

import re
import subprocess

from tests.dnf.scenes import app, dnf, installed, offer, snapshots
from tests.sandbox.machine import Sandbox


def boot(sandbox: Sandbox, told: str = "subvol=root") -> None:
    """Boot with these root flags, and words behind them, on the kernel command line."""
    line = sandbox.layout.command_line(sandbox.uuid)
    flags, _, words = told.partition(" ")
    sandbox.command_line = f"{line.replace('subvol=root', flags)} {words}"
    sandbox.reboot()
    sandbox.run(["fs-rollback", "settle", "--at-boot"], check=False)


def upgraded(sandbox: Sandbox) -> list[str]:
    """Give a machine with app-2; returns the names of the snapshots before app-1 and app-2."""
    for version in ("1", "2"):
        offer(sandbox, app(version))
        dnf(sandbox, "install" if version == "1" else "upgrade", "app")
    return [row["name"] for row in snapshots(sandbox)]


def run(sandbox: Sandbox, *words: str) -> subprocess.CompletedProcess[str]:
    return sandbox.run(["fs-rollback", *words], check=False)


def command_in(text: str) -> list[str]:
    """Return the one command that a message names."""
    (found,) = re.findall(r"'fs-rollback ([^']+)'", text)
    return str(found).split()


def make_snapshots(sandbox: Sandbox) -> dict[str, str]:
    """Have other tools take theirs of the root; returns how the kernel is told to boot each."""
    theirs = {
        ".snapshots/1/snapshot": ["-r"],
        "timeshift-btrfs/snapshots/2026-11-28_10-00-01/root": [],
    }
    with sandbox.top() as top:
        for path, options in theirs.items():
            (top / path).parent.mkdir(parents=True)
            snapshot = ["btrfs", "-q", "subvolume", "snapshot", *options]
            subprocess.run([*snapshot, str(top / "root"), str(top / path)], check=True)
    snapper, timeshift = (f"subvol={path}" for path in theirs)
    number = sandbox.subvolumes()[".snapshots/1/snapshot"]
    return {
        "an overlay over its own root": "subvol=root systemd.volatile=overlay",
        "timeshift": timeshift,
        "by its ID": f"subvolid={number}",
        "snapper with an overlay": f"{snapper} systemd.volatile=overlay",
        "snapper": snapper,
    }


def test_the_machines_own_root_is_rolled_back_from_anywhere(sandbox: Sandbox) -> None:
    upgraded(sandbox)
    own = ["--device", f"UUID={sandbox.uuid}"]
    for what, told in make_snapshots(sandbox).items():
        boot(sandbox, told)
        refused = run(sandbox, "rollback", "--yes")
        assert refused.returncode == 3, what
        assert "two lines disagree" not in run(sandbox, "status").stdout, what
        command = command_in(refused.stderr)
        assert command == ["rollback", *own], what
        if "snapper" in what:
            sandbox.output("fs-rollback", *command, "--yes")
            assert '"waiting": "reboot"' in run(sandbox, "status", *own, "--json").stdout
            sandbox.output("fs-rollback", "undo", *own, "--yes")
            assert '"waiting": "nothing"' in run(sandbox, "status", *own, "--json").stdout
        assert "dry run" in sandbox.output("fs-rollback", *command, "--dry-run"), what
    sandbox.output("fs-rollback", *command, "--yes")
    boot(sandbox)
    assert installed(sandbox) == "1"
    replaced = snapshots(sandbox)[-1]["name"]

    # A replaced root that somebody booted by hand is not the one that waits for its reboot.
    boot(sandbox, f"subvol=fs-snapshots/{replaced}")
    command = command_in(run(sandbox, "undo", "--yes").stderr)
    sandbox.output("fs-rollback", "undo", *command[1:], "--yes", "--to-replaced")
    boot(sandbox)
    assert installed(sandbox) == "2"


def test_a_snapshot_of_ours_that_somebody_named_by_hand(sandbox: Sandbox) -> None:
    """As from its menu entry: the plain command makes that the root."""
    name = upgraded(sandbox)[1]
    for words in ("", " systemd.volatile=overlay"):
        boot(sandbox, f"subvol=fs-snapshots/{name}{words}")
        assert f"runs a trial of {name}" in run(sandbox, "status").stdout
        assert run(sandbox, "delete", name).returncode != 0
        shown = sandbox.output("fs-rollback", "rollback", "--dry-run")
        assert re.search(rf"^Roll back to snapshot \d+ \({name}\)", shown, re.MULTILINE)
    sandbox.output("fs-rollback", "rollback", "--yes")
    boot(sandbox)
    assert installed(sandbox) == "1"

    # A line of fstab that nobody needs at boot may be old; the boot entries are not.
    with sandbox.top() as top:
        snapshot = ["btrfs", "-q", "subvolume", "snapshot"]
        subprocess.run([*snapshot, str(top / "root"), str(top / "new")], check=True)
        for path in (top / "new/boot/loader/entries").iterdir():
            path.write_text(path.read_text().replace("subvol=root", "subvol=new"))
    boot(sandbox, "subvol=new")
    assert "its own root" not in run(sandbox, "status").stdout
