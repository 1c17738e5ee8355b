# SPDX-License-Identifier: GPL-2.0-or-later
"""The plugin where things go wrong, and where it has no business."""

from __future__ import annotations

import json
import subprocess
import time

import pytest

from tests.dnf.holding import held, let_go, line_of, slow
from tests.dnf.scenes import (
    LINE,
    app,
    both,
    dnf,
    installed,
    lines_of_ours,
    offer,
    records,
    said,
    snapshots,
    wait_for_path,
)
from tests.sandbox.engine import Engine
from tests.sandbox.machine import Sandbox
from tests.sandbox.rpms import Package


def _configure(box: Sandbox, text: str) -> None:
    box.path("/etc/fs-rollback.conf").write_text(text)


def _break_the_store(box: Sandbox) -> None:
    """Put a file where the store should be: no snapshot can be taken."""
    with box.top() as top:
        (top / "fs-snapshots").write_text("in the way")


@both
def test_a_failing_snapshot_stops_dnf(sandbox: Sandbox) -> None:
    offer(sandbox, app("1"))
    _break_the_store(sandbox)
    done = dnf(sandbox, "install", "app", code=1)
    assert "fs-snapshots at the top level is not a directory" in done.stderr
    assert sandbox.engine.without in done.stderr
    assert installed(sandbox) == ""
    history = sandbox.output("dnf", "history", "list").splitlines()
    assert not history or history[-1].startswith("-----"), "there is no row"


def test_a_boot_loader_that_starts_another_kernel(sandbox: Sandbox) -> None:
    offer(sandbox, app("1"))
    dnf(sandbox, "install", "app")
    assert "no modules" not in sandbox.run(["fs-rollback", "status"], check=False).stdout
    sandbox.run(["fs-rollback", "rollback", "--yes"])
    image, _, options = sandbox.command_line.partition(" ")
    sandbox.command_line = f"{image}-other {options}"
    sandbox.reboot()
    done = sandbox.run(["fs-rollback", "settle", "--at-boot"], check=False)
    assert done.returncode == 1
    assert "came up in the new root" in done.stdout
    assert "-other instead of its default entry" in done.stderr
    fitting = image.partition("vmlinuz-")[2]
    assert f"choose kernel {fitting} in the boot menu" in done.stderr
    for command, kernel in (("status", "running kernel"), ("check", "running kernel")):
        said = sandbox.run(["fs-rollback", command], check=False)
        assert said.returncode in (1, 3), "there is no init in this sandbox either"
        assert f"no modules for the {kernel}" in said.stdout


@both
def test_warn_carries_on(sandbox: Sandbox) -> None:
    offer(sandbox, app("1"))
    _break_the_store(sandbox)
    _configure(sandbox, "on_failure = warn\n")
    done = dnf(sandbox, "install", "app")
    assert "without a snapshot" in said(done)
    assert installed(sandbox) == "1"


@both
def test_check_before_stops_dnf_on_a_machine_that_would_not_boot(sandbox: Sandbox) -> None:
    offer(sandbox, app("1"))
    _configure(sandbox, "check_before = yes\n")
    fstab = sandbox.path("/etc/fstab")
    before = fstab.read_text()
    fstab.write_text(before + "UUID=0123-4567 /data ext4 defaults 0 0\n")
    done = dnf(sandbox, "install", "app", code=1)
    assert "this machine would not boot" in done.stderr
    assert "'fs-rollback check' shows all" in done.stderr
    assert installed(sandbox) == ""
    assert records(sandbox) == {}
    _configure(sandbox, "check_before = yes\non_failure = warn\n")
    done = dnf(sandbox, "install", "app")
    assert "/etc/fstab line" in said(done)
    assert installed(sandbox) == "1"
    assert len(records(sandbox)) == 1, "it is protected all the same"


def test_a_swap_file_in_the_root_stops_dnf(sandbox: Sandbox) -> None:
    offer(sandbox, app("1"))
    sandbox.run(
        [
            "sh",
            "-c",
            "touch /swap; chattr +C /swap; chmod 600 /swap; "
            "dd if=/dev/zero of=/swap bs=1M count=8 status=none; "
            "mkswap /swap >/dev/null; swapon /swap",
        ]
    )
    try:
        done = dnf(sandbox, "install", "app", code=1)
    finally:
        sandbox.run(["swapoff", "/swap"])
    assert "swap file" in done.stderr
    assert installed(sandbox) == ""
    assert records(sandbox) == {}


@both
def test_a_broken_configuration_breaks_no_other_command(sandbox: Sandbox) -> None:
    offer(sandbox, app("1"))
    _configure(sandbox, "on_failure = abort\nkeep_lats = 3\n")
    assert "fs-rollback.conf" not in dnf(sandbox, "repolist").stderr
    dnf(sandbox, "install", "--downloadonly", "app")
    done = dnf(sandbox, "install", "app", code=1)
    assert "/etc/fs-rollback.conf line 2: unknown key 'keep_lats'" in done.stderr
    assert installed(sandbox) == ""
    _configure(sandbox, "keep_lats = 3\non_failure = warn\n")
    done = dnf(sandbox, "install", "app")
    assert "line 1" in said(done)
    assert installed(sandbox) == "1"
    sandbox.path("/etc/fs-rollback.conf").write_bytes(b"# par Andr\xe9\nkeep_days = 3\n")
    assert LINE in said(dnf(sandbox, "remove", "app"))
    sandbox.path("/etc/fs-rollback.conf").unlink()
    sandbox.path("/etc/fs-rollback.conf").mkdir()
    done = dnf(sandbox, "install", "app", code=1)
    assert "/etc/fs-rollback.conf is not a file. Correct or remove it." in done.stderr


@both
def test_a_waiting_rollback_stops_every_transaction(sandbox: Sandbox) -> None:
    """In the other layout it is a claim of tests/demo."""
    box = sandbox
    offer(box, app("1"), app("2"))
    dnf(box, "install", "app-1")
    dnf(box, "upgrade")
    _configure(box, "on_failure = warn\n")
    box.run(["fs-rollback", "rollback", "--yes"])
    done = dnf(box, "remove", "app", code=1)
    assert "a rollback is waiting for a reboot" in done.stderr
    assert "fs-rollback undo" in done.stderr
    assert installed(box) == "2"
    status = box.run(["fs-rollback", "status", "--json"], check=False)
    assert status.returncode == 1
    assert json.loads(status.stdout)["waiting"] == "reboot"
    box.reboot()
    assert installed(box) == "1"
    dnf(box, "upgrade")
    assert installed(box) == "2"
    assert json.loads(box.output("fs-rollback", "list", "--json"))["snapshots"]


def test_kill_9_in_the_middle_is_settled_at_the_next_run(sandbox: Sandbox) -> None:
    wait = {"post": "touch /run/now; while [ -e /run/now ]; do sleep 0.1; done"}
    offer(sandbox, app("1"), Package("slow", "1", scriptlets=wait))
    with sandbox.popen(["dnf", "--assumeyes", "install", "slow"]) as process:
        wait_for_path(sandbox.path("/run/now"))
        (during,) = snapshots(sandbox)
        assert during["marks"] == ["pending"], "its transaction runs: nothing to settle yet"
        sandbox.signal(process, 9)
        sandbox.path("/run/now").unlink()
        process.communicate(timeout=60)
    time.sleep(0.5)
    (after,) = snapshots(sandbox)
    assert after["transaction"]["outcome"] == "interrupted"
    (record,) = records(sandbox).values()
    assert record["transaction"]["outcome"] == "pending", "who only looks writes nothing"
    sandbox.run(["rpm", "-e", "--noscripts", "slow"], check=False)
    dnf(sandbox, "install", "app")
    first, second = records(sandbox).values()
    assert first["transaction"]["outcome"] == "interrupted"
    assert first["transaction"]["history_id"] == 1
    assert len(first["uuid"]) == 32
    assert second["transaction"]["outcome"] == "done"


@pytest.mark.parametrize("signal", [2, 15])
def test_signals_leave_a_record_that_the_history_settles(sandbox: Sandbox, signal: int) -> None:
    wait = {"post": "touch /run/now; sleep 2"}
    offer(sandbox, app("1"), Package("slow", "1", scriptlets=wait))
    with sandbox.popen(["dnf", "--assumeyes", "install", "slow"]) as process:
        wait_for_path(sandbox.path("/run/now"))
        sandbox.signal(process, signal)
        process.communicate(timeout=60)
    sandbox.path("/run/now").unlink(missing_ok=True)
    dnf(sandbox, "install", "app")
    first = next(iter(records(sandbox).values()))
    assert first["transaction"]["outcome"] in ("done", "interrupted", "failed")
    rows = sandbox.output("dnf", "history", "info", "1")
    success = "Return-Code    : Success" in rows
    assert (first["transaction"]["outcome"] == "done") == success


@both
def test_removing_the_plugin_with_the_transaction(sandbox: Sandbox) -> None:
    plugin = sandbox.engine.plugin
    done = dnf(sandbox, "remove", plugin, "fs-rollback")
    assert LINE in said(done)
    assert "Traceback" not in said(done)
    assert "ModuleNotFound" not in said(done)
    (record,) = records(sandbox).values()
    removed = {p["name"] for p in record["transaction"]["packages"]}
    # The wing needs fs-rollback, and goes with it.
    assert removed == {plugin, "fs-rollback", "fs-rollback-convert"}
    # dnf 4 loads no hook of a plugin that is gone; the next run settles it.
    assert record["transaction"]["outcome"] == {
        Engine.DNF4: "pending", Engine.DNF5: "done",
    }[sandbox.engine]  # fmt: skip
    with sandbox.top() as top:
        assert len(list((top / "fs-snapshots").glob("yum_*"))) == 2, "snapshot and record stay"


@both
def test_post_snapshot_and_pruning(sandbox: Sandbox) -> None:
    _configure(sandbox, "post_snapshot = yes\nkeep_last = 3\nkeep_days = 0\n")
    for number in ("1", "2", "3"):
        offer(sandbox, app(number))
        dnf(sandbox, "install", "app-" + number)
    kinds = [s["kind"] for s in snapshots(sandbox)]
    assert kinds == ["post", "pre", "post"]


def test_a_failure_of_pruning_does_not_fail_the_transaction(sandbox: Sandbox) -> None:
    _configure(sandbox, "keep_last = 1\nkeep_days = 0\n")
    offer(sandbox, app("1"), app("2"))
    dnf(sandbox, "install", "app-1")
    name = snapshots(sandbox)[0]["name"]
    with sandbox.top() as top:
        # A file of this name is in the way of the first step of the deletion.
        (top / "fs-snapshots" / f"deleted_{name}").mkdir()
        (top / "fs-snapshots" / f"deleted_{name}" / "x").touch()
        done = dnf(sandbox, "upgrade")
    assert installed(sandbox) == "2"
    assert "fs-snapshot: cannot delete" in said(done)


@both
def test_ostree_and_containers_are_left_alone(sandbox: Sandbox) -> None:
    offer(sandbox, app("1"), app("2"))
    for mark, version in (("/run/ostree-booted", "1"), ("/run/.containerenv", "2")):
        sandbox.path(mark).touch()
        done = dnf(sandbox, "install", "app-" + version)
        sandbox.path(mark).unlink()
        assert "fs-snapshot" not in said(done)
    assert records(sandbox) == {}


@both
def test_a_first_process_that_is_hidden_is_no_chroot(sandbox: Sandbox) -> None:
    """As in a unit with ProtectProc=, proc(5) hidepid: the transaction is protected as ever."""
    offer(sandbox, app("1"))
    hide = "mount -o remount,hidepid=4 /proc"
    script = f"{hide}; exec setpriv --bounding-set=-sys_ptrace dnf -y install app"
    assert LINE in said(sandbox.run(["sh", "-c", script]))


@both
def test_a_root_that_is_not_btrfs(sandbox: Sandbox) -> None:
    offer(sandbox, app("1"))
    script = """
    mount -t tmpfs none /mnt && cp -a --one-file-system /bin /etc /lib /lib64 /sbin /usr /var /mnt
    mkdir -p /mnt/proc /mnt/dev /mnt/run /mnt/tmp && mount --bind /proc /mnt/proc
    mount --rbind /run /mnt/run && mount --bind /dev /mnt/dev
    exec chroot /mnt dnf --assumeyes install app
    """
    done = sandbox.run(["unshare", "--mount", "sh", "-c", script])
    assert "fs-snapshot" not in said(done)
    assert "Complete!" in said(done)
    assert records(sandbox) == {}


@both
def test_an_rpmdb_outside_the_snapshot_is_said_and_not_protected(sandbox: Sandbox) -> None:
    offer(sandbox, app("1"))
    script = """
    cp -a /var/lib/rpm /run/rpm && mount --bind /run/rpm /var/lib/rpm
    exec dnf --assumeyes install app
    """
    done = sandbox.run(["unshare", "--mount", "sh", "-c", script])
    assert lines_of_ours(done) == [
        "fs-snapshot: no snapshot: /var/lib/rpm is a subvolume or filesystem of its own"
    ]
    assert "Complete!" in said(done)
    assert records(sandbox) == {}


@both
def test_two_at_once_one_waits(sandbox: Sandbox) -> None:
    """A command that has the store makes dnf wait, not fail."""
    offer(sandbox, app("1"))
    sandbox.run(["fs-rollback", "create"])
    hold = (
        "import sys; from fs_rollback.system.machine import host\n"
        "from fs_rollback.system.store import store\n"
        "with host.opened() as h, store.opened(h) as s, s.locked():\n"
        "    print('held', flush=True); sys.stdin.readline()"
    )
    with sandbox.running.popen(["python3", "-c", hold], stdin=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with sandbox.popen(["dnf", "--assumeyes", "install", "app"]) as transaction:
            assert transaction.stderr is not None
            told = next(line for line in transaction.stderr if "fs-snapshot" in line)
            assert told.startswith("fs-snapshot: waiting up to 30 seconds for process ")
            assert "(python3), running since 2" in told
            assert transaction.poll() is None
            holder.communicate("go\n", timeout=60)
            output = "".join(transaction.communicate(timeout=60))
    assert LINE in output
    assert installed(sandbox) == "1"


@both
def test_a_rollback_waits_for_a_running_transaction(sandbox: Sandbox) -> None:
    """From the snapshot to the end: dnf itself does not hold rpm's lock all that time."""
    offer(sandbox, app("1"), slow("slow", "pre"))
    dnf(sandbox, "install", "app")
    with (
        held(sandbox, "install", "slow") as transaction,
        sandbox.popen(["fs-rollback", "rollback", "--yes"]) as rollback,
    ):
        assert "waiting up to 30 seconds for process" in line_of(rollback)
        assert rollback.poll() is None, "it waits"
        let_go(sandbox)
        assert "Complete!" in "".join(transaction.communicate(timeout=60))
        told, _ = rollback.communicate(timeout=60)
        assert rollback.returncode == 0
    assert "Rolled back" in told
    sandbox.reboot()
    assert installed(sandbox, "slow") == "", "it was part of the root that was replaced"
    assert installed(sandbox) == "1"


@both
def test_a_plain_chroot_into_a_subvolume_is_left_alone(sandbox: Sandbox) -> None:
    offer(sandbox, app("1"))
    script = """
    btrfs -q subvolume snapshot / /inner 2>/dev/null || btrfs subvolume snapshot / /inner
    for d in proc dev run; do mount --rbind /$d /inner/$d; done
    exec chroot /inner dnf --assumeyes install app
    """
    done = sandbox.run(["unshare", "--mount", "sh", "-c", script])
    assert "Complete!" in said(done)
    assert lines_of_ours(done) == [
        "fs-snapshot: no snapshot: this is a chroot, not the system that runs"
    ]
    assert records(sandbox) == {}


@both
def test_a_library_that_cannot_be_loaded_stops_dnf(sandbox: Sandbox) -> None:
    offer(sandbox, app("1"))
    sandbox.run(["sh", "-c", "mkdir /away; mv /usr/lib/python3/dist-packages/btrfsutil* /away"])
    done = dnf(sandbox, "install", "app", code=1)
    assert "fs-snapshot cannot be loaded" in done.stderr
    assert sandbox.engine.without in done.stderr
    assert installed(sandbox) == ""
    dnf(sandbox, sandbox.engine.without, "install", "app")
    for mark in ("/run/.containerenv", "/run/ostree-booted"):
        sandbox.path(mark).touch()
        assert lines_of_ours(dnf(sandbox, "reinstall", "app")) == []
        sandbox.path(mark).unlink()


@both
def test_a_library_that_is_broken_stops_dnf(sandbox: Sandbox) -> None:
    offer(sandbox, app("1"))
    sandbox.path("/usr/lib/python3/dist-packages/btrfsutil.py").write_text("1 / 0\n")
    sandbox.run(["sh", "-c", "rm /usr/lib/python3/dist-packages/btrfsutil.*.so"])
    done = dnf(sandbox, "install", "app", code=1)
    assert "fs-snapshot cannot be loaded: division by zero. Nothing was changed" in done.stderr
    assert installed(sandbox) == ""
