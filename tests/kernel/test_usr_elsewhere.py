# SPDX-License-Identifier: GPL-2.0-or-later
"""A /usr or /etc that snapshots of the root do not hold: every command names that, and only it."""

from __future__ import annotations

import btrfsutil
import pytest

from fs_rollback.cli.main import main
from fs_rollback.core.snapshots.record import Transaction
from fs_rollback.system.hooks import transaction
from fs_rollback.system.machine import unprotected
from tests.kernel.commands import Done
from tests.kernel.machine import Machine, run


@pytest.mark.parametrize("how", ["nested", "mounted", "not mounted"])
def test_all_commands_name_one_reason(
    named: Machine, how: str, capfd: pytest.CaptureFixture[str]
) -> None:
    def say(*words: str) -> Done:
        capfd.readouterr()
        return Done(main([*words, "--root", str(named.root)]), *capfd.readouterr())

    usr = named.root / "usr"
    usr.rename(named.root / "usr.old")
    if how == "nested":
        btrfsutil.create_subvolume(str(usr))
        run("cp", "-a", f"{named.root}/usr.old/.", str(usr))
    else:
        usr.mkdir()
        btrfsutil.create_subvolume(str(named.top / "usr"))
        run("cp", "-a", f"{named.root}/usr.old/.", str(named.top / "usr"))
        fstab = named.root / "etc/fstab"
        fstab.write_text(f"{fstab.read_text()}UUID={named.uuid} /usr btrfs subvol=usr 0 0\n")
    if how == "mounted":
        run("mount", "-o", "loop,subvol=usr", str(named.image), str(usr))
    reason = "/usr is a subvolume or filesystem of its own"
    try:
        before = transaction.before(Transaction("dnf4", ("dnf",), "admin"), str(named.root))
        assert isinstance(before, unprotected.Unprotected)
        assert reason in before.reason
        assert reason in say("list").err
        for command in (("rollback",), ("rollback", "--dry-run"), ("rollback", "--yes", "latest")):
            ended = say(*command)
            assert (ended.code, ended.sentence.startswith(reason)) == (3, True), ended
        status = say("status", "--json").json["attention"]
        assert [line for line in status if "rollback is possible" in line] == [
            f"{reason}: transactions take no snapshot, no rollback is possible"
        ]
        links = {link["name"]: link for link in say("check", "--json").json["links"]}
        assert reason in links["layout"]["text"]
        assert reason in links["plugin"]["text"]
        assert ("not mounted here" in str(links)) == (how == "not mounted"), "that is true then"
        assert "takes one" not in str(links), "none is any use"
        # A snapshot that was taken all the same changes nothing.
        assert say("create").code == 0
        assert say("rollback").sentence.startswith(reason)
    finally:
        if how == "mounted":
            run("umount", str(usr))
