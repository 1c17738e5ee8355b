# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine that runs: its command line names the root in other words, and others have entries."""

from __future__ import annotations

import json

import btrfsutil

from tests.sandbox.machine import Sandbox

_ENTRIES = "/boot/loader/entries"
_GRUB_CFG = 'set default="${saved_entry}"\nload_env\nblscfg\n'
_HEAD = "# GRUB Environment Block\n"


def _status(box: Sandbox) -> dict[str, object]:
    done = box.run(["fs-rollback", "status", "--json"], check=False)
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def _choose(box: Sandbox, entry: str) -> None:
    text = f"{_HEAD}saved_entry={entry}\n"
    box.path("/boot/grub2").mkdir(exist_ok=True)
    box.path("/boot/grub2/grubenv").write_text(text + "#" * (1024 - len(text)))
    box.path("/boot/grub2/grub.cfg").write_text(_GRUB_CFG)


def test_the_running_line_and_the_default_entry_decide(sandbox: Sandbox) -> None:
    usual = next(p.stem for p in sandbox.path(_ENTRIES).glob("*.conf"))
    _choose(sandbox, usual)
    with sandbox.top() as top:
        (top / "snaps").mkdir()
        btrfsutil.create_snapshot(str(top / "root"), str(top / "snaps/one"))
    others = {
        "2026_linux": "root=PARTUUID=0a1b2c3d-01 rootflags=subvol=@ rw",
        "arch": "root=LABEL=arch rw",
        f"{usual}-boom": f"root=UUID={sandbox.uuid} rootflags=subvol=snaps/one",
        "zzz-stale": f"root=UUID={sandbox.uuid} rootflags=subvol=gone",
    }
    for name, options in others.items():
        text = f"title {name}\nlinux /vmlinuz-linux\noptions {options}\n"
        sandbox.path(f"{_ENTRIES}/{name}.conf").write_text(text)
    # The device, not its UUID; and a file for the next kernel that is out of date.
    device = sandbox.output("findmnt", "--noheadings", "--nofsroot", "--output", "SOURCE", "/")
    line = sandbox.command_line.replace(f"UUID={sandbox.uuid}", device.strip())
    sandbox.path("/run/cmdline").write_text(line + "\n")
    cmdline = sandbox.path("/etc/kernel/cmdline")
    cmdline.write_text("# as it was\n" + cmdline.read_text().replace("subvol=root", "subvol=old"))
    assert _status(sandbox)["layout"] == "named: subvol=root"
    sandbox.run(["fs-rollback", "create"])
    sandbox.run(["fs-rollback", "rollback", "latest", "--yes"])
    assert _status(sandbox)["waiting"] == "reboot"
    sandbox.reboot()
    assert "subvol=root" in sandbox.path("/etc/kernel/cmdline").read_text()
    assert sandbox.path(f"{_ENTRIES}/zzz-stale.conf").exists()
    # Another system's entry as the default is left alone; one of this system is not.
    _choose(sandbox, "arch")
    sandbox.run(["fs-rollback", "rollback", "latest", "--dry-run"])
    _choose(sandbox, f"{usual}-boom")
    done = sandbox.run(["fs-rollback", "rollback", "latest", "--dry-run"], check=False)
    assert (done.returncode, "disagree" in done.stderr) == (3, True)
