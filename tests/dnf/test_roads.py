# SPDX-License-Identifier: GPL-2.0-or-later
"""Which programs take a snapshot before they change packages, and the commands that change that."""

from __future__ import annotations

import json
from typing import Any, Optional

from tests.sandbox.machine import Sandbox
from tests.unit.manual import differences

_SWITCH = "/etc/dnf/plugins/fs-snapshot.conf"


def status(sandbox: Sandbox) -> dict[str, Any]:
    found = sandbox.run(["fs-rollback", "status", "--json"], check=False)
    answer: dict[str, Any] = json.loads(found.stdout)
    assert bool(answer["attention"]) == bool(found.returncode)
    assert differences("status", answer) == []
    return answer


def roads(sandbox: Sandbox) -> dict[str, tuple[str, Optional[str]]]:
    return {road["name"]: (road["state"], road["advice"]) for road in status(sandbox)["roads"]}


def test_the_roads_and_the_commands_that_change_them(sandbox: Sandbox) -> None:
    found = roads(sandbox)
    assert found["dnf"] == found["dnf4"] == found["offline updates"] == ("covered", None)
    assert found["rpm"] == ("not covered", None)
    assert found["dnf5"] == found["PackageKit"] == ("not installed", None)
    text = sandbox.output("fs-rollback", "status")
    assert len(text.splitlines()) < 24
    assert "\nCovered:       dnf, dnf4, offline updates\n" in text
    assert "\nNot covered:   rpm: no plugin sees it" in text
    assert text.index("Not covered:") < text.index(
        "\nNot installed: dnf5, dnf5daemon, PackageKit\n"
    )
    for path, line in ((_SWITCH, "enabled=no"), ("/etc/dnf/dnf.conf", "plugins = False")):
        conf = sandbox.path(path)
        usual = conf.read_text()
        conf.write_text(f"# \xe9\n[main]\n{line}\n# the end\n")
        state, command = roads(sandbox)["dnf"]
        assert state == "not covered"
        assert command is not None
        attention = status(sandbox)["attention"]
        assert [ln.endswith(f". Run: {command}") for ln in attention] == [True], "said once"
        sandbox.run(["sh", "-c", command])
        assert roads(sandbox)["dnf"] == ("covered", None)
        assert conf.read_text().endswith("1\n# the end\n")
        conf.write_text(usual)


def test_without_the_package_its_name_is_told(sandbox: Sandbox) -> None:
    sandbox.run(["rpm", "--erase", "python3-dnf-plugin-fs-snapshot"])
    assert roads(sandbox)["dnf"] == (
        "not covered", "dnf install python3-dnf-plugin-fs-snapshot",
    )  # fmt: skip
    (line,) = status(sandbox)["attention"]
    assert line.endswith("Run: dnf install python3-dnf-plugin-fs-snapshot")
