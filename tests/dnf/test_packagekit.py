# SPDX-License-Identifier: GPL-2.0-or-later
"""Before an offline update of PackageKit: its own program is not here, what it leaves is."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from typing import Optional

import pytest

from fs_rollback.core.packages.dnf5_actions import PROGRAM
from tests.dnf.scenes import LINE, app, dnf, installed, offer, records, snapshots
from tests.sandbox.machine import Sandbox

_DROP_IN = "/usr/lib/systemd/system/packagekit-offline-update.service.d/fs-snapshot.conf"
_DIRECTORY = "/var/lib/PackageKit"
_RESULTS = f"{_DIRECTORY}/offline-update-competed"


def _prepare(sandbox: Sandbox, target: str = f"{_DIRECTORY}/prepared-update") -> None:
    """Leave what pkcon offline-trigger leaves."""
    sandbox.path(_DIRECTORY).mkdir(exist_ok=True)
    identifiers = "app;2-1;noarch;sandbox,extra;1-1;noarch;sandbox"
    sandbox.path(f"{_DIRECTORY}/prepared-update").write_text(
        f"[update]\nprepared_ids={identifiers}\n"
    )
    link = sandbox.path("/") / "system-update"
    link.unlink(missing_ok=True)
    os.symlink(target, link)


def _run(sandbox: Sandbox, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Do what systemd does before the program of PackageKit."""
    text = sandbox.path(_DROP_IN).read_text()
    (variable,) = re.findall(r"^Environment=(.*)$", text, re.MULTILINE)
    (script,) = re.findall(r"^ExecStartPre=/usr/bin/sh -c '(.*)'$", text, re.MULTILINE)
    command = ["env", variable, "sh", "-c", script.replace("$$", "$")]
    done = sandbox.run(command, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture
def upgradable(sandbox: Sandbox) -> Sandbox:
    """A machine with an application that has a new version."""
    offer(sandbox, app("1"))
    dnf(sandbox, "--disableplugin=fs-snapshot", "install", "app")
    offer(sandbox, app("2"))
    return sandbox


def test_a_snapshot_with_what_will_be_done_and_what_became_of_it(upgradable: Sandbox) -> None:
    _prepare(upgradable)
    time.sleep(1)  # dnf's history counts in seconds, and there is no reboot in between here
    assert _run(upgradable).stdout.startswith(LINE)
    (record,) = records(upgradable).values()
    assert record["kind"] == "pre"
    assert record["transaction"]["tool"] == "packagekit"
    assert [
        (p["action"], p["name"], p["from"], p["to"]) for p in record["transaction"]["packages"]
    ] == [
        ("upgrade", "app", "1-1", "2-1"),
        ("install", "extra", None, "1-1"),
    ]
    assert [s["transaction"]["outcome"] for s in snapshots(upgradable)] == ["interrupted"]
    # What libdnf does then, without plugins for Python; it writes to dnf's history.
    dnf(upgradable, "--disableplugin=fs-snapshot", "upgrade")
    (found,) = snapshots(upgradable)
    assert found["transaction"]["outcome"] == "done"
    assert found["transaction"]["history_id"] == 2
    plan = json.loads(upgradable.output("fs-rollback", "rollback", "--dry-run", "--json"))
    assert plan["target"] == record["name"], "it is what a rollback goes back to"


def test_no_copy_of_the_snapshot_makes_the_update_again(upgradable: Sandbox) -> None:
    """The link is in the snapshot: PackageKit's program, which removes it, comes after."""
    _prepare(upgradable)
    twin = upgradable.path("/etc") / "system-update"
    os.symlink(f"{_DIRECTORY}/prepared-update", twin)
    _run(upgradable)
    (upgradable.path("/") / "system-update").unlink()
    twin.unlink()
    dnf(upgradable, "--disableplugin=fs-snapshot", "upgrade")
    (name,) = records(upgradable)
    upgradable.run(["fs-rollback", "rollback", "--yes"])
    with upgradable.top() as top:
        for link in ("system-update", "etc/system-update"):
            assert os.path.lexists(top / "fs-snapshots" / name / link), "it was there"
            assert not os.path.lexists(top / "root" / link)
            trials = list((top / "fs-snapshots").glob("try_*"))
            assert [os.path.lexists(trial / link) for trial in trials] == [False]
    upgradable.reboot()
    assert installed(upgradable) == "1"
    assert _run(upgradable).stdout == ""


def test_an_etc_elsewhere_in_the_root_stays_what_it_is(upgradable: Sandbox) -> None:
    dnf(upgradable, "upgrade")
    upgradable.run(["sh", "-c", "mv /etc /usr/etc2 && ln -s usr/etc2 /etc"])
    os.symlink("/var/lib/somewhere", upgradable.path("/usr/etc2") / "system-update")
    upgradable.run(["fs-rollback", "create"])
    upgradable.run(["fs-rollback", "rollback", "--yes", "latest"])
    with upgradable.top() as top:
        assert os.readlink(top / "root/etc") == "usr/etc2"
        assert not os.path.lexists(top / "root/usr/etc2/system-update")


def test_other_offline_updates_are_none_of_its_business(upgradable: Sandbox) -> None:
    assert _run(upgradable).stdout == "", "no link"
    upgradable.run(["rm", "-r", "/usr/lib/python3/dist-packages/fs_rollback"])
    for target in ("/var/lib/dnf/system-upgrade", "/usr/lib/sysimage/libdnf5/offline", "/var"):
        _prepare(upgradable, target)
        assert _run(upgradable).stdout == "", "even where everything is broken"


@pytest.mark.parametrize("prepared", [None, "", "\0\xff[[", "[update]\nprepared_ids=;;,x;1"])
def test_an_upgrade_and_what_cannot_be_read(upgradable: Sandbox, prepared: Optional[str]) -> None:
    _prepare(upgradable, f"{_DIRECTORY}/prepared-upgrade")
    path = upgradable.path(f"{_DIRECTORY}/prepared-update")
    if prepared is None:
        path.unlink()
    else:
        path.write_bytes(prepared.encode("latin-1"))
    assert _run(upgradable).stdout.startswith(LINE)
    (record,) = records(upgradable).values()
    assert record["transaction"]["packages"] == []


def test_a_failing_snapshot_stops_the_update_and_the_desktop_says_so(upgradable: Sandbox) -> None:
    _prepare(upgradable)
    with upgradable.top() as top:
        (top / "fs-snapshots").write_text("in the way")
    said = _run(upgradable, 1).stdout
    assert "not a directory" in said
    assert "The update was not installed." in said
    results = upgradable.path(_RESULTS).read_text()
    assert results.startswith("[PackageKit Offline Update Results]\nSuccess=false\n")
    assert "ErrorDetails=fs-snapshot: " in results
    upgradable.path("/etc/fs-rollback.conf").write_text("on_failure = warn\n")
    assert "continues without a snapshot" in _run(upgradable).stdout


def test_what_is_only_told_to_people_stops_nothing(upgradable: Sandbox) -> None:
    _prepare(upgradable)
    upgradable.run(["mv", "/usr/bin/rpm", "/usr/bin/no-rpm"])
    assert LINE in _run(upgradable).stdout
    (record,) = records(upgradable).values()
    assert {p["action"] for p in record["transaction"]["packages"]} == {"install"}


def test_a_library_that_cannot_be_loaded_stops_it(upgradable: Sandbox) -> None:
    _prepare(upgradable)
    upgradable.run(["rm", "-r", "/usr/lib/python3/dist-packages/fs_rollback"])
    assert (
        "the plugin cannot be loaded: No module named 'fs_rollback'" in _run(upgradable, 1).stdout
    )
    assert "No module named" in upgradable.path(_RESULTS).read_text()


def test_what_the_desktop_reads_is_one_line(upgradable: Sandbox) -> None:
    _prepare(upgradable)
    upgradable.path("/etc/fs-rollback.conf").write_text("on_failure = \x01\\\x1b[2J\n")
    _run(upgradable, 1)
    (line,) = re.findall("^ErrorDetails=(.*)$", upgradable.path(_RESULTS).read_text(), re.MULTILINE)
    assert line.isprintable()
    assert re.fullmatch(r"(?:[^\\]|\\\\)*", line), "each backslash is doubled"


def test_a_broken_configuration_stops_it_as_it_stops_dnf(upgradable: Sandbox) -> None:
    _prepare(upgradable)
    upgradable.path("/etc/fs-rollback.conf").write_text("keep_lots = 1\n")
    assert "unknown key" in _run(upgradable, 1).stdout
    upgradable.path("/etc/fs-rollback.conf").write_text("keep_lots = 1\non_failure = warn\n")
    assert "continues without" in _run(upgradable).stdout
    assert records(upgradable) == {}


def test_a_rollback_that_waits_stops_it_whatever_the_configuration(upgradable: Sandbox) -> None:
    dnf(upgradable, "upgrade")
    upgradable.run(["fs-rollback", "rollback", "--yes"])
    upgradable.path("/etc/fs-rollback.conf").write_text("on_failure = warn\n")
    _prepare(upgradable)
    assert "is waiting for a reboot" in _run(upgradable, 1).stdout


def test_what_is_no_longer_kept_goes(upgradable: Sandbox) -> None:
    """Machines that are only updated like this must not fill up."""
    upgradable.path("/etc/fs-rollback.conf").write_text("keep_last = 2\nkeep_days = 0\n")
    _prepare(upgradable)
    for _ in range(4):
        _run(upgradable)
    assert len(records(upgradable)) == 2


def test_no_btrfs_no_word(upgradable: Sandbox) -> None:
    _prepare(upgradable)
    upgradable.path("/run/.containerenv").touch()
    assert _run(upgradable).stdout == ""


def _with_backend5(sandbox: Sandbox) -> None:
    """Leave what dnf 5, its Actions plugin and PackageKit's backend for it would."""
    for path, text in {
        "/usr/libexec/packagekitd": "",
        "/etc/PackageKit/PackageKit.conf": "[Daemon]\n",
        "/usr/lib64/packagekit-backend/libpk_backend_dnf.so": "",
        "/usr/lib64/packagekit-backend/libpk_backend_dnf5.so": "",
        "/usr/lib64/libdnf5/plugins/actions.so": "",
        "/etc/dnf/libdnf5-plugins/actions.conf": "[main]\nname = actions\nenabled = 1\n",
        "/etc/dnf/libdnf5-plugins/actions.d/fs-snapshot.actions": "pre_transaction:::"
        f"enabled=host-only mode=json raise_error=1:{PROGRAM} ${{pid}}\n",
        PROGRAM: "#!/bin/sh\n",
    }.items():
        sandbox.path(path).parent.mkdir(parents=True, exist_ok=True)
        sandbox.path(path).write_text(text)
    sandbox.path(PROGRAM).chmod(0o755)


def test_it_steps_back_where_dnf5_takes_the_snapshot(upgradable: Sandbox) -> None:
    _prepare(upgradable)
    _with_backend5(upgradable)
    upgradable.path("/etc/fs-rollback.conf").write_text("keep_lots = 1\n")
    assert _run(upgradable).stdout == "", "the action says what is wrong"
    upgradable.path("/etc/fs-rollback.conf").unlink()
    assert _run(upgradable).stdout == ""
    assert records(upgradable) == {}
    upgradable.path(PROGRAM).chmod(0o644)
    assert _run(upgradable).stdout.startswith(LINE), "dnf 5 would take none"
    assert len(records(upgradable)) == 1


def test_the_one_switch_is_obeyed(upgradable: Sandbox) -> None:
    _prepare(upgradable)
    switch = upgradable.path("/etc/dnf/plugins/fs-snapshot.conf")
    switch.write_text("[main]\nenabled = 0\n")
    assert _run(upgradable).stdout == ""
    assert records(upgradable) == {}
    switch.write_text("[main]\nenabled\n")
    assert _run(upgradable).stdout.startswith(LINE), "nobody has switched it off"
