# SPDX-License-Identifier: GPL-2.0-or-later
"""The machines that the tests of this tier run on are what they claim to be."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.sandbox.base import base_image, cache_directory
from tests.sandbox.layout import Layout
from tests.sandbox.machine import Sandbox
from tests.sandbox.namespace import CommandError
from tests.sandbox.rpms import Package, build, publish

CHECKOUT = Path(__file__).parents[2]


def offer(repository: Path, version: str, **scriptlets: str) -> None:
    """Put a version of the package 'greeting' into the repository."""
    files = {"/usr/share/greeting": f"hello {version}\n"}
    build([Package("greeting", version, files=files, scriptlets=scriptlets)], repository)
    publish(repository)


def attached(image: Path) -> str:
    """Return the loop devices that have the image; none is an empty text."""
    command = ["losetup", "--noheadings", "--output=NAME", "--associated", os.fspath(image)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_root_is_the_subvolume_of_the_layout(bare_sandbox: Sandbox) -> None:
    table = bare_sandbox.output("cat", "/proc/self/mountinfo").splitlines()
    root = next(line.split() for line in table if line.split()[4] == "/")
    separator = root.index("-")
    assert root[separator + 1] == "btrfs"
    assert root[3] == f"/{bare_sandbox.layout.subvolume}"
    assert "compress=zstd:1" in root[separator + 3]  # fstab was read, not only the command line
    assert bare_sandbox.default_id == 5
    paths = bare_sandbox.subvolumes()
    assert bare_sandbox.root_id == paths.get(bare_sandbox.layout.subvolume, 5)
    assert not [line for line in table if str(CHECKOUT) in line.split()[4]]


def test_command_line_and_boot_entry_agree(bare_sandbox: Sandbox) -> None:
    command_line = bare_sandbox.output("cat", "/proc/cmdline").split(maxsplit=1)[1].strip()
    entry = bare_sandbox.output("sh", "-c", "cat /boot/loader/entries/*.conf")
    assert f"options {command_line} " in entry
    assert bare_sandbox.output("cat", "/etc/kernel/cmdline").strip() == command_line
    assert f"root=UUID={bare_sandbox.uuid} " in command_line
    device = bare_sandbox.output("realpath", f"/dev/disk/by-uuid/{bare_sandbox.uuid}").strip()
    assert device == bare_sandbox.output("findmnt", "-nvo", "SOURCE", "/").strip()


def test_dnf_installs_and_upgrades_and_a_reboot_keeps_it(
    bare_named: Sandbox, repository: Path
) -> None:
    offer(repository, "1")
    done = bare_named.run(["dnf", "-y", "install", "greeting"])
    assert bare_named.output("cat", "/usr/share/greeting") == "hello 1\n"
    assert done.stderr == ""
    offer(repository, "2")
    bare_named.run(["dnf", "-y", "upgrade"])
    assert bare_named.output("cat", "/usr/share/greeting") == "hello 2\n"
    bare_named.reboot()
    assert bare_named.output("rpm", "-q", "greeting") == "greeting-2-1.noarch\n"


def test_scriptlets_run(bare_named: Sandbox, repository: Path) -> None:
    offer(repository, "1", post="echo post >/var/lib/greeting")
    bare_named.run(["dnf", "-y", "install", "greeting"])
    assert bare_named.output("cat", "/var/lib/greeting") == "post\n"


def test_boot_follows_the_command_line_and_the_table(bare_sandbox: Sandbox) -> None:
    bare_sandbox.run(["btrfs", "subvolume", "snapshot", "/", "/other"])
    bare_sandbox.run(["touch", "/other/this-is-the-other"])
    root = bare_sandbox.layout.subvolume
    path = f"{root}/other" if root else "other"
    flags = f"rootflags=subvol={root}" if root else "ro"
    bare_sandbox.command_line = bare_sandbox.command_line.replace(flags, f"rootflags=subvol={path}")
    bare_sandbox.reboot()
    bare_sandbox.output("ls", "/this-is-the-other")
    assert bare_sandbox.root_id == bare_sandbox.subvolumes()[path]


def test_without_a_name_the_default_subvolume_boots(tmp_path: Path, repository: Path) -> None:
    image = base_image(cache_directory(), Layout.TOP_LEVEL)
    with Sandbox(image, Layout.TOP_LEVEL, tmp_path, repository) as sandbox:
        sandbox.boot()
        sandbox.run(["btrfs", "subvolume", "snapshot", "/", "/other"])
        other = sandbox.subvolumes()["other"]
        sandbox.run(["btrfs", "subvolume", "set-default", str(other), "/"])
        assert sandbox.root_id == 5
        sandbox.reboot()
        assert sandbox.root_id == other


def test_a_machine_without_a_root_does_not_boot(bare_named: Sandbox) -> None:
    line = bare_named.command_line
    bare_named.command_line = f"{line} rootflags=subvol=nowhere"
    with pytest.raises(CommandError, match="nowhere"):
        bare_named.reboot()
    assert attached(bare_named.image) == ""
    bare_named.command_line = line
    bare_named.boot()


def test_top_is_seen_by_nobody_else(bare_named: Sandbox) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    inside = bare_named.output("cat", "/proc/self/mountinfo")
    with bare_named.top() as top:
        assert Path(top, bare_named.layout.subvolume, "etc/fstab").is_file()
        assert Path("/proc/self/mountinfo").read_text() == before
        assert bare_named.output("cat", "/proc/self/mountinfo") == inside
        with pytest.raises(RuntimeError):
            bare_named.reboot()
    bare_named.shutdown()
    assert attached(bare_named.image) == ""
    with bare_named.top() as top:  # switched off
        assert Path(top, bare_named.layout.subvolume, "etc/fstab").is_file()


def test_a_signal_reaches_the_command(bare_named: Sandbox) -> None:
    script = "trap 'echo caught; exit 7' INT; echo ready; while :; do sleep 0.01; done"
    with bare_named.popen(["sh", "-c", script]) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        bare_named.signal(process, signal.SIGINT)
        assert process.stdout.read() == "caught\n"
    assert process.returncode == 7


def test_a_command_that_hangs_is_killed(bare_named: Sandbox) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        bare_named.run(["sleep", "1000"], timeout_s=0.2)
    assert bare_named.run(["sh", "-c", "grep -l sleep /proc/*/comm"], check=False).stdout == ""


def test_two_machines_at_once(tmp_path: Path, repository: Path) -> None:
    image = base_image(cache_directory(), Layout.NAMED)
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    with ExitStack() as stack:
        one, two = (
            stack.enter_context(Sandbox(image, Layout.NAMED, tmp_path / name, repository))
            for name in ("1", "2")
        )
        one.boot()
        two.boot()
        one.run(["touch", "/one"])
        assert two.run(["test", "-e", "/one"], check=False).returncode == 1
        assert one.uuid != two.uuid


def test_an_exception_leaves_nothing_behind(tmp_path: Path, repository: Path) -> None:
    image = base_image(cache_directory(), Layout.NAMED)
    before = Path("/proc/self/mountinfo").read_text()
    started = []

    def fail_while_running() -> None:
        with Sandbox(image, Layout.NAMED, tmp_path, repository) as sandbox:
            sandbox.boot()
            started.append(sandbox.popen(["sleep", "1000"]))
            with sandbox.top():
                assert attached(sandbox.image)
                raise KeyError

    with pytest.raises(KeyError):
        fail_while_running()
    with started[0] as process:
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert attached(tmp_path / "disk.img") == ""
    assert Path("/proc/self/mountinfo").read_text() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk.img", "repository"]


def test_a_killed_owner_leaves_nothing_behind(tmp_path: Path, repository: Path) -> None:
    script = f"""\
        import sys
        from pathlib import Path
        from tests.sandbox.base import base_image, cache_directory
        from tests.sandbox.layout import Layout
        from tests.sandbox.machine import Sandbox
        image = base_image(cache_directory(), Layout.NAMED)
        with Sandbox(image, Layout.NAMED, Path({os.fspath(tmp_path)!r}),
                     Path({os.fspath(repository)!r})) as sandbox:
            sandbox.boot()
            with sandbox.top():
                sandbox.popen(["sleep", "1000"])
                print("ready", flush=True)
                sandbox.run(["sleep", "1000"])
        """
    command = [sys.executable, "-B", "-c", textwrap.dedent(script)]
    with subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "ready\n"
        assert attached(tmp_path / "disk.img")
        owner.kill()
    deadline = time.monotonic() + 5
    while attached(tmp_path / "disk.img"):
        assert time.monotonic() < deadline, "a loop device is left"
        time.sleep(0.01)


def test_the_product_is_installed_as_its_packages(sandbox: Sandbox) -> None:
    assert sandbox.run(["fs-rollback", "--version"]).stdout.startswith("fs-rollback ")
    packages = sandbox.output("rpm", "-qa", "--qf", "%{NAME}\\n").split()
    assert {"fs-rollback", "python3-dnf-plugin-fs-snapshot"} <= set(packages)
    assert sandbox.output("rpm", "-V", "fs-rollback", "python3-dnf-plugin-fs-snapshot") == ""
