# SPDX-License-Identifier: GPL-2.0-or-later
"""The life of the packages on a machine and in an image, all of it by real dnf."""

from __future__ import annotations

import shutil
import stat
from pathlib import Path

import pytest

from tests.dnf.scenes import LINE, app, both, dnf, installed, offer, records, said, snapshots
from tests.sandbox.engine import Engine
from tests.sandbox.machine import Sandbox
from tests.sandbox.product import build_product
from tests.sandbox.rpms import publish

_PLUGIN = Engine.DNF4.plugin
_PACKAGES = ("fs-rollback", _PLUGIN)
_CONVERT = "fs-rollback-convert"


@pytest.fixture
def offered(bare_named: Sandbox, product_rpms: list[Path]) -> Sandbox:
    """A machine without the product, which its repository has."""
    _offer_built(bare_named, product_rpms)
    return bare_named


def _offer_built(sandbox: Sandbox, rpms: list[Path]) -> None:
    for rpm in rpms:
        shutil.copy(rpm, sandbox.repository)
    publish(sandbox.repository)


@pytest.fixture(scope="session")
def newer_rpms(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The packages of a later version, with other defaults in their configuration files."""
    return build_product(tmp_path_factory.mktemp("newer"), "99")


def _unchanged(sandbox: Sandbox, *besides: str) -> None:
    """rpm has nothing to say about its files, nor about what they need."""
    ours = ("fs-rollback", sandbox.engine.plugin)
    told = sandbox.run(["rpm", "--verify", *ours], check=False).stdout.splitlines()
    assert [line for line in told if not line.endswith(besides or ("\n",))] == []


@both
def test_from_the_first_installation_to_the_last_removal(
    offered: Sandbox, newer_rpms: list[Path]
) -> None:
    sandbox, plugin = offered, offered.engine.plugin
    done = dnf(sandbox, "install", plugin)
    assert "fs-snapshot:" not in said(done)
    assert installed(sandbox, "fs-rollback"), "the plugin brings the command"
    assert not installed(sandbox, _CONVERT), "which is for a root on ext4"
    assert records(sandbox) == {}
    _unchanged(sandbox)

    offer(sandbox, app("1"))
    assert said(dnf(sandbox, "install", "app")).count(LINE) == 1
    assert sandbox.output("fs-rollback", "list").count("install app") == 1
    _unchanged(sandbox)

    ours = ("/etc/fs-rollback.conf", "/etc/dnf/plugins/fs-snapshot.conf")
    sandbox.path(ours[0]).write_text("keep_last = 7\n")
    sandbox.path(ours[1]).write_text("[main]\nenabled = yes\n")
    _offer_built(sandbox, newer_rpms)
    done = dnf(sandbox, "upgrade")
    assert said(done).count(LINE) == 1, "by the version that was replaced"
    assert "Traceback" not in said(done)
    assert installed(sandbox, plugin) == "99"
    assert not installed(sandbox, _CONVERT), "an upgrade brings nothing unasked"
    newest = list(records(sandbox).values())[-1]
    assert newest["transaction"]["outcome"] == "done"
    assert sandbox.path(ours[0]).read_text() == "keep_last = 7\n"
    assert sandbox.path(ours[1]).read_text() == "[main]\nenabled = yes\n"
    for name in ours:
        assert "changed by 99" in sandbox.path(f"{name}.rpmnew").read_text()
    _unchanged(sandbox, *ours)

    done = dnf(sandbox, "remove", "fs-rollback")
    assert "snapshots are left where they are, in fs-snapshots/" in said(done)
    assert "Traceback" not in said(done)
    assert not sandbox.path("/usr/bin/fs-rollback").exists()
    # What another Python than the one of the packages has compiled is nobody's.
    left_over = sandbox.path("/usr/lib/python3/dist-packages").glob("fs_rollback*/**/*.py")
    assert list(left_over) == []
    left = records(sandbox)
    assert len(left) == 3
    with sandbox.top() as top:
        assert all((top / "fs-snapshots" / name).is_dir() for name in left)
    assert sandbox.path(f"{ours[0]}.rpmsave").read_text() == "keep_last = 7\n"
    dnf(sandbox, "reinstall", "app")
    assert records(sandbox) == left, "nobody is there to take one"

    dnf(sandbox, "install", plugin)
    found = snapshots(sandbox)
    assert [s["name"] for s in found] == list(left)
    assert {s["transaction"]["outcome"] for s in found} == {"done"}, "the removal among them"
    assert said(dnf(sandbox, "reinstall", "app")).count(LINE) == 1
    _unchanged(sandbox)


@both
def test_removed_from_a_machine_without_snapshots_nothing_is_said(offered: Sandbox) -> None:
    dnf(offered, "install", offered.engine.plugin)
    done = dnf(offered, offered.engine.without, "remove", "fs-rollback")
    assert "snapshots are left" not in said(done)
    assert records(offered) == {}


@pytest.fixture
def image(offered: Sandbox) -> Path:
    """The system of an image that is being built, a subvolume: /image in the machine."""
    offered.run(["btrfs", "subvolume", "snapshot", "/", "/image"])
    return offered.path("/image")


def test_into_an_installroot(offered: Sandbox, image: Path) -> None:
    dnf(offered, "install", _PLUGIN)
    done = dnf(offered, "--installroot=/image", "install", _PLUGIN)
    assert LINE not in done.stdout
    assert (image / "usr/bin/fs-rollback").exists()
    done = dnf(offered, "--installroot=/image", "reinstall", *_PACKAGES)
    assert "fs-snapshot:" not in done.stdout + done.stderr
    done = dnf(offered, "--installroot=/image", "remove", "fs-rollback")
    assert "snapshots are left" not in done.stdout + done.stderr
    assert records(offered) == {}
    with offered.top() as top:
        assert not (top / "fs-snapshots").exists()


# How builders change root: with what is mounted there, and with nothing.
_MOUNTED = "for d in proc dev run; do mount --rbind /$d /image/$d; done"
_BARE = "mkdir -p /image/run/repo && cp -r /run/repo /image/run/ && cp -a /dev/null /image/dev/"


@pytest.mark.parametrize(
    ("mounts", "place"), [(_MOUNTED, "a mount"), (_BARE, "/image")], ids=["mounted", "bare"]
)
def test_into_a_chroot_and_the_first_boot_from_there(
    offered: Sandbox, image: Path, mounts: str, place: str
) -> None:
    # mkosi and Anaconda have the root of their image mounted, others have it in a directory.
    bind = "" if place == "/image" else "mount --bind /image /image"
    script = f"""
    set -eu
    {bind}
    {mounts}
    chroot /image dnf --assumeyes install {_PLUGIN}
    chroot /image dnf --assumeyes reinstall fs-rollback
    """
    offer(offered, app("1"))
    done = offered.run(["unshare", "--mount", "sh", "-c", script])
    assert LINE not in done.stdout
    said = [s for s in (done.stdout + done.stderr).splitlines() if s.startswith("fs-snapshot:")]
    assert said == ["fs-snapshot: no snapshot: this is a chroot, not the system that runs"]
    assert "Traceback" not in done.stdout + done.stderr
    with offered.top() as top:
        assert not (top / "fs-snapshots").exists()
        (top / "root/image").rename(top / "image")
        (top / "root").rename(top / "old")
        (top / "image").rename(top / "root")
    offered.reboot()
    assert dnf(offered, "install", "app").stdout.count(LINE) == 1
    with offered.top() as top:
        assert stat.S_IMODE((top / "fs-snapshots").stat().st_mode) == 0o700
        assert len(list((top / "fs-snapshots").glob("yum_*.json"))) == 1
