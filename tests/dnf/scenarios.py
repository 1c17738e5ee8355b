# SPDX-License-Identifier: GPL-2.0-or-later
"""What people do with dnf, one command after the other on one machine, and what comes of each.

    python3 -m tests.dnf.scenarios

prints it as a table. test_scenarios.py holds it, with a real dnf 4 and a real dnf 5.
"""

from __future__ import annotations

from typing import NamedTuple

from tests.sandbox.engine import Engine
from tests.sandbox.rpms import Package

_BOTH = (Engine.DNF4, Engine.DNF5)
_DNF4, _DNF5 = (Engine.DNF4,), (Engine.DNF5,)

_APP = "/usr/bin/app"
_KERNEL = "/usr/lib/modules/{}/vmlinuz"

PACKAGES = (
    *(Package("app", version, files={_APP: version}) for version in "123"),
    Package("lib", "2"),
    Package("withdep", "1", requires=["lib"]),
    Package("conflict", "1", files={_APP: "not that of app\n"}),
    Package("badpre", "1", scriptlets={"pre": "exit 1"}),
    Package("badpost", "1", scriptlets={"post": "exit 1"}),
    Package("newlib", "1", obsoletes=["lib"]),
    Package("other", "1"),
    *(Package("epoch", "1", str(number + 1), epoch=str(number)) for number in (0, 1)),
    *(Package("multi", version, arch=arch) for version in "12" for arch in ("i686", "x86_64")),
    *(Package("kernel", version, files={_KERNEL.format(version): ""}) for version in "1234"),
)

COMPS = """<?xml version="1.0"?><comps><group><id>tools</id><name>Tools</name>
<uservisible>true</uservisible><packagelist><packagereq type="mandatory">withdep</packagereq>
</packagelist></group></comps>"""


class Scenario(NamedTuple):
    """A command, and what has to come of it.

    `packages` are the changes that the record of its snapshot tells; where there is none, there is
    no snapshot. `outcome` is the end that it tells. `seen` is what a person reads of dnf; of us it
    is the usual line, where there is a snapshot and the command does not ask for quiet.
    """

    name: str
    command: str
    packages: tuple[str, ...] = ()
    code: int = 0
    seen: str = "Complete!"
    outcome: str = "done"
    engines: tuple[Engine, ...] = _BOTH

    @property
    def is_quiet(self) -> bool:
        """Whether the command asks for quiet."""
        return self.command.startswith(("-q ", "-yq "))


_WITHDEP = ("install lib 2-1", "install withdep 1-1")
_WITHOUT = ("remove lib 2-1", "remove withdep 1-1")
_NOTHING = "Nothing to do."

# fmt: off
SCENARIOS = (
    Scenario("install", "install app-1", ("install app 1-1",)),
    Scenario("upgrade", "upgrade app", ("upgrade app 1-1 3-1",)),
    Scenario("downgrade", "downgrade app-1", ("downgrade app 3-1 1-1",)),
    Scenario("reinstall", "reinstall app", ("reinstall app 1-1 1-1",)),
    Scenario("install, nothing to do", "install app-1", seen=_NOTHING),
    Scenario("upgrade, not installed", "upgrade lib", code=1, seen="available, but not installed"),
    Scenario("install, no match", "install nosuch", code=1, seen="nosuch"),
    Scenario("remove, no match", "remove nosuch", seen=_NOTHING),
    Scenario("--downloadonly", "install --downloadonly lib"),
    Scenario("--assumeno", "install --assumeno lib", code=1, seen="Operation aborted"),
    Scenario("tsflags=test", "--setopt=tsflags=test install lib"),
    Scenario("file conflict", "install conflict", code=1, seen="conflicts with file from package"),
    Scenario("makecache", "makecache", seen="Metadata cache created."),
    Scenario("check-upgrade", "check-upgrade", code=100, seen="app.noarch"),
    Scenario("list", "list --installed app", seen="app.noarch"),
    Scenario("clean", "clean expire-cache", seen="emoved"),
    Scenario("autoremove, nothing to do", "autoremove", seen=_NOTHING),
    Scenario("install with a dependency", "install withdep", _WITHDEP),
    Scenario("remove with a dependency", "remove withdep", _WITHOUT),
    Scenario("history undo", "history undo last", _WITHDEP),
    Scenario("history redo, nothing to do", "history redo last", seen=_NOTHING),
    Scenario("history rollback", "history rollback 6", _WITHOUT),
    Scenario("group install", "group install tools", _WITHDEP),
    Scenario("group install, once more", "group install tools", engines=_DNF4),
    Scenario("group install, once more", "group install tools", seen=_NOTHING, engines=_DNF5),
    Scenario("group remove", "group remove tools", _WITHOUT),
    Scenario("group mark", "group mark install tools", engines=_DNF4),
    Scenario("group without packages", "group install --no-packages tools", engines=_DNF5),
    Scenario("-q", "-q install withdep", _WITHDEP, seen=""),
    Scenario("mark as dependency", "mark remove withdep", seen="unmarked", engines=_DNF4),
    Scenario("mark as dependency", "mark dependency withdep", engines=_DNF5),
    Scenario("mark by user", "mark install withdep", seen="marked as user", engines=_DNF4),
    Scenario("mark by user", "mark user withdep", engines=_DNF5),
    Scenario("mark once more", "mark remove withdep", seen="unmarked", engines=_DNF4),
    Scenario("mark once more", "mark dependency withdep", engines=_DNF5),
    Scenario("autoremove", "autoremove", _WITHOUT),
    Scenario("kernel 1", "install kernel-1", ("install kernel 1-1",)),
    Scenario("kernel 2", "install kernel-2", ("install kernel 2-1",)),
    Scenario("kernel 3", "install kernel-3", ("install kernel 3-1",)),
    Scenario("kernel 4, one is trimmed", "install kernel-4",
             ("install kernel 4-1", "remove kernel 1-1")),
    Scenario("failing %pre", "install badpre", ("install badpre 1-1",), 1,
             "badpre", "failed"),
    # rpm before 6 has a failing %post for a warning.
    Scenario("failing %post", "install badpost", ("install badpost 1-1",), engines=_DNF4),
    Scenario("failing %post", "install badpost", ("install badpost 1-1",), 1,
             "scriptlet failed", "failed", engines=_DNF5),
    Scenario("a file", "install /run/repo/lib-2-1.noarch.rpm", ("install lib 2-1",)),
    Scenario("swap", "swap lib other", ("install other 1-1", "remove lib 2-1")),
    Scenario("history undo of a swap", "history undo last",
             ("install lib 2-1", "remove other 1-1")),
    Scenario("obsoleted", "install newlib", ("install newlib 1-1", "obsolete lib 2-1")),
    Scenario("distro-sync", "distro-sync app", ("upgrade app 1-1 3-1",)),
    Scenario("epoch 0", "install epoch-0:1", ("install epoch 1-1",)),
    Scenario("epoch 1", "upgrade epoch", ("upgrade epoch 1-1 1:1-2",)),
    Scenario("multilib", "install multi-1-1.i686 multi-1-1.x86_64",
             ("install multi.i686 1-1", "install multi.x86_64 1-1")),
    Scenario("multilib, upgrade", "upgrade multi",
             ("upgrade multi.i686 1-1 2-1", "upgrade multi.x86_64 1-1 2-1")),
    Scenario("--installroot", "--installroot=/tmp/other install app", engines=_DNF4),
    Scenario("--installroot", "--use-host-config --installroot=/tmp/other install app",
             engines=_DNF5),
    Scenario("-yq", "-yq reinstall app", ("reinstall app 3-1 3-1",), seen=""),
    Scenario("switched off", "--disableplugin=fs-snapshot reinstall app", engines=_DNF4),
    Scenario("switched off", "--disable-plugin=actions reinstall app", engines=_DNF5),
    Scenario("plugins=0", "--setopt=plugins=0 reinstall app"),
    Scenario("--store", "remove app --store=/run/stored", engines=_DNF5),
    Scenario("replay", "replay /run/stored", ("remove app 3-1",), engines=_DNF5),
    Scenario("--offline, prepared", "remove epoch --offline", engines=_DNF5),
)
# fmt: on


def _table() -> str:
    rows = [("scenario", "dnf", "command", "snapshot", "packages", "outcome", "code", "seen")]
    for engine in Engine:
        for s in SCENARIOS:
            if engine in s.engines:
                ours = "the line" if s.packages and not s.is_quiet else ""
                seen = ", ".join(filter(None, (ours, s.seen))) or "nothing of us"
                taken = ("yes", "; ".join(s.packages), s.outcome) if s.packages else ("no", "", "")
                rows.append((s.name, engine.description, s.command, *taken, str(s.code), seen))
    return "\n".join(" | ".join(row) for row in rows)


if __name__ == "__main__":
    print(_table())
