# SPDX-License-Identifier: GPL-2.0-or-later
"""The units as systemd itself reads them, in a tree with nothing else of the product's."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.need import need
from tests.packaging.conftest import output

# In tenths, as `systemd-analyze security` counts: what it said when this was written, no more.
EXPOSURE = {
    "boot": 50, "settle": 50, "prune": 50, "guard": 50, "healthy": 50, "unhealthy": 50,
    "emergency": 50, "again": 50,
}  # fmt: skip


@pytest.fixture(scope="module")
def tree(unpacked: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages on a system that has systemd's own units and some empty programs."""
    need("systemd-analyze", "systemctl")
    root = tmp_path_factory.mktemp("units")
    shutil.copytree(unpacked, root, dirs_exist_ok=True)
    shutil.copytree("/usr/lib/systemd", root / "usr/lib/systemd", dirs_exist_ok=True, symlinks=True)
    (root / "etc").mkdir(exist_ok=True)
    (root / "etc/os-release").touch()
    for program in ("sh", "rm", "echo", "sleep", "pk-offline-update"):
        shutil.copy("/bin/true", root / "usr/bin" / program)
    unit = "[Unit]\nDefaultDependencies=no\nFailureAction=reboot\n[Service]\nType=oneshot\n"
    (root / "usr/lib/systemd/system/packagekit-offline-update.service").write_text(
        f"{unit}ExecStart=/usr/bin/pk-offline-update\n"
    )
    return root


def test_systemd_has_nothing_to_say(tree: Path, unpacked: Path) -> None:
    units = sorted(
        p.name for p in (unpacked / "usr/lib/systemd/system").glob("fs-rollback-[a-z]*.[st]*")
    )
    units = [name for name in units if not name.endswith(".d")]
    assert len(units) == 10
    done = subprocess.run(
        ["systemd-analyze", "verify", f"--root={tree}", "--man=no", *units,
         "packagekit-offline-update.service"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("name", EXPOSURE)
def test_exposure(name: str, tree: Path) -> None:
    said = output(
        "systemd-analyze", "security", "--offline=true", f"--root={tree}",
        f"--threshold={EXPOSURE[name]}", f"fs-rollback-{name}.service",
    )  # fmt: skip
    assert re.search(r"Overall exposure level .*: [0-9.]+ OK", said), said


def test_what_the_preset_enables(tree: Path) -> None:
    """What follows a rollback; the one that deletes is for the administrator to enable."""
    names = ("boot.service", "settle.service", "guard.service", "prune.timer")
    units = [f"fs-rollback-{name}" for name in names]
    environment = {**os.environ, "SYSTEMD_LOG_LEVEL": "err"}
    command = ["systemctl", f"--root={tree}", "--quiet"]
    subprocess.run([*command, "preset", *units], env=environment, check=True)
    for unit, wanted in zip(units, ("enabled", "enabled", "enabled", "disabled")):
        done = subprocess.run(
            ["systemctl", f"--root={tree}", "is-enabled", unit],
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.stdout.strip() == wanted, unit


_OF_GUARDED = {
    "multi-user.target.wants/fs-rollback-healthy.service",
    "boot-complete.target.requires/fs-rollback-health.service",
    "emergency.target.wants/fs-rollback-emergency.service",
    "selinux-autorelabel.target.wants/fs-rollback-again.service",
}
_OF_UPDATE = {f"system-update{pre}.target.wants/fs-rollback-again.service" for pre in ("", "-pre")}


@pytest.mark.parametrize(
    ("line", "is_update", "wanted"),
    [
        ("ro fs_rollback.guard=1", False, _OF_GUARDED),
        ("ro fs_rollback.guard=1", True, _OF_GUARDED | _OF_UPDATE),
        ("ro quiet", True, set()),
        ("xfs_rollback.guard", False, set()),
    ],
)
def test_the_generator(
    unpacked: Path, tmp_path: Path, line: str, wanted: set[str], *, is_update: bool
) -> None:
    """Only guarded boots are looked at: the others start nothing more."""
    generator = unpacked / "usr/lib/systemd/system-generators/fs-rollback-guard-generator"
    (tmp_path / "cmdline").write_text(line + "\n")
    if is_update:
        (tmp_path / "system-update").symlink_to("/var/lib/update")
    script = generator.read_text().replace("/proc/cmdline", str(tmp_path / "cmdline"))
    script = script.replace("-L /system-update", f"-L {tmp_path}/system-update")
    made = tmp_path / "normal"
    subprocess.run(["sh", "-c", script, "generator", str(made)], check=True)
    links = {str(p.relative_to(made)): os.readlink(p) for p in made.glob("*/*")}
    assert set(links) == wanted
    assert all((unpacked / target.lstrip("/")).is_file() for target in links.values())


def test_a_failure_before_an_offline_update_ends_its_loop(tree: Path) -> None:
    """The line that removes the link, run as systemd does, with every end of the unit."""
    drop_in = tree / "usr/lib/systemd/system/packagekit-offline-update.service.d/fs-snapshot.conf"
    text = drop_in.read_text()
    (line,) = re.findall(r"^ExecStopPost=/usr/bin/sh -c '(.*)'$", text, re.MULTILINE)
    (triggers,) = re.findall(r"^Environment=FS_SNAPSHOT_TRIGGERS=(.*)$", text, re.MULTILINE)
    script = line.replace("$$", "$").replace("/system-update", f"{tree}/system-update")
    script = script.replace(f"/etc{tree}", f"{tree}/etc")
    links = (tree / "system-update", tree / "etc/system-update")
    ours, others = "/var/lib/PackageKit/prepared-update", "/var/lib/dnf/system-upgrade"
    cases = {("success", ours): 2, ("exit-code", ours): 0, ("signal", ours): 0}
    for (result, target), left in {**cases, ("exit-code", others): 2}.items():
        for link in links:
            link.unlink(missing_ok=True)
            link.symlink_to(target)
        environment = {"SERVICE_RESULT": result, "FS_SNAPSHOT_TRIGGERS": triggers, "PATH": "/bin"}
        subprocess.run(["sh", "-c", script], env=environment, check=True)
        assert sum(link.is_symlink() for link in links) == left, (result, target)
