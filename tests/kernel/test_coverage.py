# SPDX-License-Identifier: GPL-2.0-or-later
"""Which roads to rpm are covered, read from trees of files as packages and people leave them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, cast

import pytest

from fs_rollback.core.packages.dnf5_actions import PROGRAM
from fs_rollback.system.machine.host import Host
from fs_rollback.system.packages import coverage, dnf5_state, packagekit_state
from fs_rollback.system.packages.coverage import Coverage, Road
from fs_rollback.system.packages.dnf4_state import State

ACTIONS = "etc/dnf/libdnf5-plugins/actions.conf"
ACTION = "etc/dnf/libdnf5-plugins/actions.d/fs-snapshot.actions"
LIBRARY = "usr/lib64/libdnf5/plugins/actions.so"
SWITCH = "etc/dnf/plugins/fs-snapshot.conf"
DNF_CONF = "etc/dnf/dnf.conf"
LINE = f"pre_transaction:::enabled=host-only mode=json raise_error=1:{PROGRAM} ${{pid}}\n"
DROP_IN = "usr/lib/systemd/system/packagekit-offline-update.service.d/fs-snapshot.conf"
PLUGIN = "usr/lib/python3.13/site-packages/dnf-plugins/fs_snapshot.py"
ENGINE5 = {"usr/bin/dnf5": "", LIBRARY: "", ACTIONS: "[main]\nname = actions\nenabled = 1\n"}
OURS5 = {PROGRAM[1:]: "#!", ACTION: LINE, SWITCH: "[main]\nenabled = 1\n"}
ENGINE4 = {"usr/bin/dnf-3": "", "usr/lib/python3.13/site-packages/dnf/__init__.py": ""}
PACKAGEKIT = {
    "usr/libexec/packagekitd": "",
    "etc/PackageKit/PackageKit.conf": "[Daemon]\n#DefaultBackend=auto\n",
}
LIBDNF = "usr/lib64/packagekit-backend/libpk_backend_dnf.so"
BACKEND5 = "usr/lib64/packagekit-backend/libpk_backend_dnf5.so"
OFFLINE = {
    DROP_IN: "ExecStartPre=/usr/libexec/fs-snapshot-packagekit\n",
    "usr/libexec/fs-snapshot-packagekit": "#!",
}


class Tree:
    """A root of files, by path; what begins as a script can be run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)

    def add(self, *groups: dict[str, str]) -> Tree:
        for name, text in (pair for group in groups for pair in group.items()):
            path = self.path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            path.chmod(0o755 if text.startswith("#!") else 0o644)
        return self

    def remove(self, name: str) -> Tree:
        (self.path / name).unlink()
        return self

    def link(self, name: str, target: str) -> Tree:
        (self.path / name).parent.mkdir(parents=True, exist_ok=True)
        (self.path / name).symlink_to(target)
        return self

    def command(self, target: str) -> Tree:
        """Have the command `dnf` lead somewhere."""
        return self.link("usr/bin/dnf", target)

    def roads(self, root: str = "/", unsupported: str = "") -> dict[str, Road]:
        """Return the roads by name, of a system with its root at `root`."""
        host = SimpleNamespace(
            root=root, root_fd=self.descriptor, is_running=False, unsupported=lambda: unsupported
        )
        return {road.name: road for road in coverage.roads(cast(Host, host))}


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    found = Tree(tmp_path)
    yield found
    os.close(found.descriptor)


def states(roads: dict[str, Road]) -> dict[str, str]:
    return {name: road.state.value for name, road in roads.items()}


NOTHING = dict.fromkeys(
    ("dnf", "dnf4", "dnf5", "dnf5daemon", "PackageKit", "offline updates", "rpm"), "not installed"
)


def test_nothing_is_installed(tree: Tree) -> None:
    roads = tree.roads()
    assert list(roads) == list(NOTHING)
    assert states(roads) == NOTHING


def test_fedora_with_everything(tree: Tree) -> None:
    tree.add(ENGINE5, OURS5, PACKAGEKIT, OFFLINE, {BACKEND5: "", "usr/bin/rpm": ""}).command("dnf5")
    tree.add({"usr/sbin/dnf5daemon-server": ""})
    names = ("dnf", "dnf5", "dnf5daemon", "PackageKit", "offline updates")
    covered = dict.fromkeys(names, "covered")
    assert states(tree.roads()) == {**NOTHING, **covered, "rpm": "not covered"}


def test_fedora_as_installed_needs_one_package(tree: Tree) -> None:
    tree.add(ENGINE5, PACKAGEKIT, {BACKEND5: ""}).command("dnf5")
    roads = tree.roads()
    for name in ("dnf", "dnf5", "PackageKit", "offline updates"):
        assert roads[name].state is Coverage.NOT_COVERED
        assert roads[name].advice == "dnf install libdnf5-plugin-fs-snapshot"
    assert roads["dnf4"].state is Coverage.NOT_INSTALLED


def test_el9_with_everything(tree: Tree) -> None:
    tree.add(ENGINE4, PACKAGEKIT, OFFLINE, {PLUGIN: "", LIBDNF: "", "usr/bin/rpm": ""})
    roads = tree.command("dnf-3").roads()
    covered = dict.fromkeys(("dnf", "dnf4", "offline updates"), "covered")
    bare = dict.fromkeys(("PackageKit", "rpm"), "not covered")
    assert states(roads) == {**NOTHING, **covered, **bare}
    assert "loads no plugins" in roads["PackageKit"].why
    # There is no command that changes that.
    assert (roads["PackageKit"].advice, roads["rpm"].advice) == ("", "")


def test_both_on_one_machine_each_by_its_own_package(tree: Tree) -> None:
    tree.add(ENGINE5, ENGINE4, {PLUGIN: ""}).command("dnf5")
    roads = tree.roads()
    assert roads["dnf4"].state is Coverage.COVERED
    assert roads["dnf"].state is roads["dnf5"].state is Coverage.NOT_COVERED
    assert roads["offline updates"].advice == "dnf install libdnf5-plugin-fs-snapshot"
    tree.add(OURS5).remove(PLUGIN)
    roads = tree.roads()
    assert roads["dnf"].state is Coverage.COVERED
    assert roads["dnf4"].advice == "dnf install python3-dnf-plugin-fs-snapshot"
    assert roads["offline updates"].why == roads["dnf4"].why


def test_a_reason_for_the_whole_machine_is_that_of_every_road(tree: Tree) -> None:
    tree.add(ENGINE5, OURS5)
    for name, road in tree.roads(unsupported="/usr is elsewhere").items():
        is_there = name in ("dnf5", "offline updates")
        assert (road.why, road.advice) == ("/usr is elsewhere" if is_there else "", "")
    tree.add({"etc/fs-rollback.conf": "on_failure = warn\nkeep_lost = 1\n"})
    road = tree.roads(str(tree.path))["dnf5"]
    assert (road.state, "keep_lost" in road.why) == (Coverage.NOT_COVERED, True)
    tree.add({"etc/fs-rollback.conf": "keep_lost = 1\n"})
    assert tree.roads(str(tree.path))["dnf5"].state is Coverage.COVERED, "it stops dnf"


def test_advice_for_another_system_does_not_change_this_one(tree: Tree) -> None:
    road = tree.add(ENGINE5).roads("/mnt")["dnf5"]
    assert road.advice == "In that system: dnf install libdnf5-plugin-fs-snapshot"


Change = Callable[[Tree], Any]
DNF5: dict[str, tuple[Change, State, str, str]] = {
    "as installed": (lambda t: None, State.ON, "", ""),
    "no file of ours": (
        lambda t: t.remove(PROGRAM[1:]).remove(ACTION), State.OFF, "not installed", "install"
    ),
    "no switch file": (lambda t: t.remove(SWITCH), State.ON, "", ""),
    "the switch": (
        lambda t: t.add({SWITCH: "# no\n[main]\nenabled = 0\n"}), State.OFF,
        f"switched off in /{SWITCH} line 3", f"sed -i '3cenabled = 1' /{SWITCH}",
    ),
    "a switch that is none": (lambda t: t.add({SWITCH: "[main]\nenabled = x\n"}), State.ON, "", ""),
    "all plugins": (
        lambda t: t.add({DNF_CONF: "[main]\nplugins=False\n"}), State.OFF,
        f"all dnf plugins are switched off in /{DNF_CONF} line 2",
        f"sed -i '2cplugins = 1' /{DNF_CONF}",
    ),
    "no boolean is passed over": (
        lambda t: t.add({DNF_CONF: "[main]\nplugins=0 # no\n"}), State.ON, "", ""
    ),
    "a drop-in": (
        lambda t: t.add({"etc/dnf/libdnf5.conf.d/9.conf": "[main]\nplugins=0\n"}), State.OFF,
        "/etc/dnf/libdnf5.conf.d/9.conf line 2", "sed",
    ),
    "dnf.conf comes after it": (
        lambda t: t.add(
            {"etc/dnf/libdnf5.conf.d/9.conf": "[main]\nplugins=0\n",
             DNF_CONF: "[main]\nplugins=1\n"}
        ), State.ON, "", "",
    ),
    "a drop-in of the distribution that the administrator replaced": (
        lambda t: t.add(
            {"usr/share/dnf5/libdnf.conf.d/9.conf": "[main]\nplugins=0\n",
             "etc/dnf/libdnf5.conf.d/9.conf": "[main]\n"}
        ), State.ON, "", "",
    ),
    "actions off": (
        lambda t: t.add({ACTIONS: "[main]\nname = actions\nenabled = 0\n"}), State.OFF,
        f"'actions' is switched off in /{ACTIONS} line 3", f"sed -i '3cenabled = 1' /{ACTIONS}",
    ),
    "actions for installroots": (
        lambda t: t.add({ACTIONS: "[main]\nenabled = installroot-only\n"}), State.OFF, "line 2", "1"
    ),
    "actions on the host": (
        lambda t: t.add({ACTIONS: "[main]\nenabled = host-only\n"}), State.ON, "", ""
    ),
    "actions, no boolean": (
        lambda t: t.add({ACTIONS: "[main]\nenabled = 1 # on\n"}), State.BROKEN,
        f"every dnf5 command fails: /{ACTIONS} line 2", "Correct",
    ),
    "actions says nothing": (
        lambda t: t.add({ACTIONS: "[main]\nname = actions\n"}), State.BROKEN, "enabled", "Correct"
    ),
    "another plugin ends dnf 5": (
        lambda t: t.add({"etc/dnf/libdnf5-plugins/rhsm.conf": "[main]\nenabled\n"}), State.BROKEN,
        "rhsm.conf line 2: Missing '='", "Correct",
    ),
    "dnf.conf": (
        lambda t: t.add({DNF_CONF: "plugins=1\n"}), State.BROKEN, "Missing section header", "Corr"
    ),
    "no plugin for actions": (
        lambda t: t.remove(ACTIONS).remove(LIBRARY), State.OFF, "libdnf5-plugin-actions",
        "dnf install libdnf5-plugin-actions",
    ),
    "no library": (lambda t: t.remove(LIBRARY), State.BROKEN, "has no library", "Correct"),
    "Debian's place": (
        lambda t: t.remove(LIBRARY).add(
            {"usr/lib/x86_64-linux-gnu/libdnf5/plugins/actions.so": ""}
        ), State.ON, "", "",
    ),
    "the library elsewhere": (
        lambda t: t.add({DNF_CONF: "[main]\npluginpath=/opt/p/\n", "opt/p/actions.so": ""}),
        State.ON, "", "",
    ),
    "no action": (lambda t: t.remove(ACTION), State.OFF, "lacks its file", "reinstall"),
    "an edited action": (
        lambda t: t.add({ACTION: "# x\n" + LINE.replace("raise_error=1", "raise_error=0")}),
        State.OFF, f"edited action: /{ACTION} line 2", f"rm /{ACTION} && ",
    ),
    "another file has it": (
        lambda t: t.add({ACTION.replace("fs-", "0"): LINE}).remove(ACTION), State.ON, "", ""
    ),
    "an empty one of the administrator replaces it": (
        lambda t: t.add(
            {"usr/share/dnf5/libdnf.plugins.conf.d/actions.d/fs-snapshot.actions": LINE, ACTION: ""}
        ), State.OFF, "lacks its file", "reinstall",
    ),
    "configured elsewhere": (
        lambda t: t.add({DNF_CONF: "[main]\npluginconfpath=/opt/c\n"}), State.OFF,
        "libdnf5-plugin-actions", "dnf install",
    ),
    "all of it elsewhere": (
        lambda t: t.add(
            {DNF_CONF: "[main]\nplugin_conf_dir=/opt/c, /opt/d\npluginconfpath=/opt/e\n",
             "opt/d/actions.conf": "[main]\nenabled = 1\n", "opt/c/actions.d/a.actions": LINE}
        ), State.ON, "", "",
    ),
    "no program": (lambda t: t.remove(PROGRAM[1:]), State.OFF, f"lacks {PROGRAM}", "reinstall"),
    "a program that cannot be run": (
        lambda t: t.add({PROGRAM[1:]: "text"}), State.OFF, "is not executable", f"755 {PROGRAM}"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", DNF5)
def test_dnf5(tree: Tree, case: str) -> None:
    change, state, problem, advice = DNF5[case]
    change(tree.add(ENGINE5, OURS5))
    found = dnf5_state.look(tree.descriptor)
    assert found.state is state, found
    assert problem in found.problem
    assert advice in found.advice
    assert bool(found.problem) == bool(found.advice) == (state is not State.ON)


def test_the_daemon_of_dnf5_has_a_file_of_its_own(tree: Tree) -> None:
    tree.add(ENGINE5, OURS5, {"usr/bin/dnf5daemon-server": ""})
    tree.add({"etc/dnf/dnf5daemon-server.conf": "[main]\nplugins=0\n"})
    roads = tree.roads()
    assert roads["dnf5"].state is Coverage.COVERED
    assert roads["dnf5daemon"].state is Coverage.NOT_COVERED
    assert "/etc/dnf/dnf5daemon-server.conf line 2" in roads["dnf5daemon"].why


OFFLINE_CASES: dict[str, tuple[Change, str, str]] = {
    "as installed": (lambda t: None, "", ""),
    "no drop-in": (lambda t: t.remove(DROP_IN), "is missing", "dnf reinstall fs-rollback"),
    "no program": (
        lambda t: t.remove("usr/libexec/fs-snapshot-packagekit"), "not executable", "reinstall"
    ),
    "masked": (
        lambda t: t.link(DROP_IN.replace("usr/lib", "etc"), "/dev/null"),
        "overrides the drop-in", f"rm /{DROP_IN.replace('usr/lib', 'etc')}",
    ),
    "switched off": (
        lambda t: t.add({SWITCH: "[main]\nenabled = no\n"}), "switched off in", "sed -i '2c"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", OFFLINE_CASES)
def test_offline_updates_of_packagekit(tree: Tree, case: str) -> None:
    change, why, advice = OFFLINE_CASES[case]
    change(tree.add(PACKAGEKIT, OFFLINE, {LIBDNF: ""}))
    road = tree.roads()["offline updates"]
    assert (road.state is Coverage.COVERED) == (not why), road
    assert why in road.why
    assert advice in road.advice
    assert not packagekit_state.runs_actions(tree.descriptor)


def test_who_takes_the_snapshot_of_packagekit(tree: Tree) -> None:
    tree.add(ENGINE5, PACKAGEKIT, OFFLINE, {LIBDNF: "", BACKEND5: ""})
    assert not packagekit_state.runs_actions(tree.descriptor), "dnf 5 takes none"
    tree.add(OURS5)
    assert packagekit_state.runs_actions(tree.descriptor)
    tree.add({"etc/PackageKit/PackageKit.conf": "[Daemon]\nDefaultBackend=dnf\n"})
    assert not packagekit_state.runs_actions(tree.descriptor)
    tree.remove("usr/libexec/packagekitd")
    assert packagekit_state.backend(tree.descriptor) == ""


def test_a_backend_that_is_not_dnf(tree: Tree) -> None:
    tree.add(PACKAGEKIT, {"usr/lib/packagekit-backend/libpk_backend_zypp.so": ""})
    road = tree.roads()["PackageKit"]
    assert (road.state, road.why) == (Coverage.NOT_COVERED, "its backend is zypp, not dnf")
