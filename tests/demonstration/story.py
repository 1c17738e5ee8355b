# SPDX-License-Identifier: GPL-2.0-or-later
"""The story: a bad upgrade, the way back, and the way back from there."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from typing import Any

from tests.sandbox.engine import Engine
from tests.sandbox.layout import Layout
from tests.sandbox.machine import Sandbox

from . import packages
from .console import Console
from .proof import CheckFailedError, Proof
from .screen import Screen

_LINE = r"fs-snapshot: snapshotting /: /fs-snapshots/(yum_\d{14})"
_PATIENCE_S = 20.0
_WRITTEN = {
    "/home/user/letter": "Dear Ada,\nthe upgrade was bad. I will write again tomorrow.\n",
    "/root/notes": "upgrading hello today\n",
    "/var/log/hello.log": "hello 2: failed\n",
}


class Story:
    """The chapters, in their order; each checks what it shows."""

    def __init__(self, sandbox: Sandbox, screen: Screen, proof: Proof) -> None:
        self._sandbox = sandbox
        self._say = screen.say
        self._heading = screen.heading
        self._chapters = 0
        self._proof = proof
        self._console = Console(sandbox, screen)
        self._written = dict(_WRITTEN)
        self._target = ""
        self._first_taken = 0.0

    def tell(self) -> None:
        """Run all of it."""
        self._the_machine()
        self._version_1()
        self._version_2()
        self._looking()
        self._rolling_back()
        self._before_the_reboot()
        self._after_the_reboot()
        self._undoing()
        self._changing_ones_mind()
        if self._sandbox.engine is Engine.DNF5:
            self._interrupting()
        self._cleaning_up()

    def _begin(self, chapter: str) -> None:
        self._chapters += 1
        self._heading(f"{self._chapters}. {chapter}")

    def _the_machine(self) -> None:
        self._begin("The machine")
        for line in ("findmnt /", "cat /proc/cmdline", "btrfs subvolume list /"):
            self._console.root(line)
        self._proof.claim(
            f"The sandbox is what it says: a btrfs root in {self._sandbox.layout.description}."
        )
        found = self._sandbox.output("findmnt", "-n", "-o", "FSTYPE,FSROOT", "/").split()
        root = f"/{self._sandbox.layout.subvolume}"
        self._proof.equal(f"/ is btrfs, mounted from {root}", found, ["btrfs", root])

    def _version_1(self) -> None:
        self._begin("An application that works")
        packages.offer(self._sandbox.repository, packages.VERSION_1)
        self._proof.claim(
            "Every transaction takes a snapshot of the root first, and says so in one line."
        )
        said = self._console.root("dnf -y install hello")
        self._first_taken = time.monotonic()
        first = self._proof.one_line("the plugin said so in one line", said, _LINE)[1]
        self._console.root("hello")
        self._console.root("cat /etc/hello.conf")
        self._say("A user writes a letter, the administrator a note.")
        self._console.root("install -d -o 1000 -g 1000 /home/user")
        self._console.user("echo 'Dear Ada,' >/home/user/letter")
        self._console.root("echo 'upgrading hello today' >/root/notes")
        self._proof.claim("An option of dnf runs one transaction without a snapshot.")
        self._say("Documentation breaks nothing: this time, no snapshot is wanted.")
        said = self._console.root(f"dnf -y {self._sandbox.engine.without} install hello-doc")
        self._proof.equal("no snapshot is named", "fs-snapshot:" in said, False)
        self._console.root("rpm -q hello-doc")
        self._proof.equal("and none was taken", self._newest_pre(), first)

    def _version_2(self) -> None:
        self._begin("A bad upgrade")
        packages.offer(self._sandbox.repository, packages.VERSION_2)
        # Names have seconds; these two shall not look alike to the reader either.
        time.sleep(max(0.0, self._first_taken + 1 - time.monotonic()))
        self._proof.claim(
            "The next one takes a snapshot again; its record says what was done and how it ended."
        )
        said = self._console.root("dnf -y upgrade")
        self._target = self._proof.one_line("the plugin said so again", said, _LINE)[1]
        record = self._when_it_has_ended()
        self._proof.equal("this snapshot is the newest", record["name"], self._target)
        self._proof.equal("its record: done", record["transaction"]["outcome"], "done")
        actions = [change["action"] for change in record["transaction"]["packages"]]
        self._proof.equal("its record: 1 upgraded, 1 new", sorted(actions), ["install", "upgrade"])
        self._proof.claim("The upgrade was bad: the application no longer works.")
        said = self._console.root("hello", code=127)
        self._proof.equal("version 2 fails", said, packages.FAILS)
        self._say("It also rewrote its configuration for itself. Meanwhile, work goes on.")
        self._console.root("cat /etc/hello.conf")
        self._console.user(
            "echo 'the upgrade was bad. I will write again tomorrow.' >>/home/user/letter"
        )
        self._console.root("echo 'hello 2: failed' >/var/log/hello.log")

    def _looking(self) -> None:
        self._begin("What is there to go back to?")
        self._proof.claim("The list and the record say what happened, in words.")
        said = self._console.root("fs-rollback list")
        self._proof.says("the list names both", said, "dnf -y install hello", "1 upgraded, 1 new")
        said = self._console.root("fs-rollback show latest")
        self._proof.says("the record has both versions", said, self._target, "1.0-1", "2.0-1")
        self._proof.claim("A dry run shows the plan and what would go back, and changes nothing.")
        before = self._state()
        said = self._console.root("fs-rollback rollback --dry-run")
        self._proof.says(
            "packages and files that go back are named, and what stays",
            said, "hello 2.0-1 to 1.0-1", "libgreeting 2.0-1 is removed",
            "changed by hand: /etc/hello.conf", "What stays as it is", "nothing was changed",
        )  # fmt: skip
        self._proof.equal("subvolumes, store and next boot are as before", self._state(), before)

    def _rolling_back(self) -> None:
        self._begin("The rollback")
        old = self._sandbox.root_id
        self._proof.claim("A rollback asks, prepares the next boot, and says what to do next.")
        said = self._console.root_answers("fs-rollback rollback", "y")
        self._proof.says(
            "it says so, and the way back", said,
            "Rolled back: the next boot uses a copy of ", f" ({self._target}).",
            "Now: reboot", "fs-rollback undo",
        )  # fmt: skip
        status = self._status()
        self._proof.equal("running: the old root", status["running"]["id"], old)
        differ = status["next"]["id"] != old
        self._proof.equal("next boot: another root", differ, True)

    def _before_the_reboot(self) -> None:
        self._begin("Until the reboot")
        self._proof.claim("Until the reboot the running system is what it was.")
        said = self._console.root("hello", code=127)
        self._proof.equal("version 2 still runs, and fails", said, packages.FAILS)
        said = self._console.root("rpm -q hello")
        self._proof.equal("version 2 is still installed", said, "hello-2.0-1.noarch\n")
        self._proof.claim("Until the reboot dnf refuses what would change the wrong root.")
        said = self._console.root("dnf -y install tree", code=1)
        self._proof.says("dnf says what to do", said, "waiting for", "reboot", "fs-rollback undo")
        self._console.root("rpm -q tree", code=1)
        self._proof.equal("no snapshot was taken for it", self._newest_pre(), self._target)
        self._proof.claim("'fs-rollback status' says that a rollback waits.")
        said = self._console.root("fs-rollback status", code=1)
        self._proof.says("the rollback and its reboot are named", said, self._target, "Attention:")

    def _after_the_reboot(self) -> None:
        self._begin("After the reboot")
        self._console.reboot()
        self._proof.claim("After the reboot version 1 runs, and the rpm database agrees.")
        said = self._console.root("hello")
        self._proof.equal("version 1 runs", said, packages.WORKS)
        said = self._console.root("rpm -q hello")
        self._proof.equal("rpm has version 1", said, "hello-1.0-1.noarch\n")
        said = self._console.root("rpm -V hello")
        self._proof.equal("rpm -V finds every file as it was packaged", said, "")
        self._console.root("rpm -q libgreeting", code=1)
        said = self._console.root("cat /etc/hello.conf")
        self._proof.equal("the configuration is that of version 1", said, packages.CONFIGURATION)
        self._proof.claim(
            "User data is as last written, not as it was when the snapshot was taken."
        )
        said = self._console.user("cat /home/user/letter")
        self._proof.equal("the letter is whole", said, self._written["/home/user/letter"])
        owner = self._sandbox.output("stat", "-c", "%u:%g", "/home/user/letter")
        self._proof.equal("and still the user's", owner, "1000:1000\n")
        for path in ("/root/notes", "/var/log/hello.log"):
            self._check_written(path)
        self._proof.claim("The old root is kept, whole, and the snapshot is not used up.")
        said = self._console.root("fs-rollback list")
        kinds = [snapshot["kind"] for snapshot in self._snapshots()]
        self._proof.equal(
            "two snapshots and the old root", sorted(kinds), ["pre", "pre", "replaced"]
        )
        said = self._console.root("fs-rollback status")
        self._proof.says("status: nothing waits", said, "Waiting: nothing")

    def _undoing(self) -> None:
        self._begin("It was no help: undo")
        self._console.user("echo 'I did not.' >>/home/user/letter")
        self._written["/home/user/letter"] += "I did not.\n"
        self._proof.claim("'fs-rollback undo' and a reboot bring back the upgraded system.")
        self._console.root_answers("fs-rollback undo", "y")
        self._console.reboot()
        said = self._console.root("hello", code=127)
        self._proof.equal("version 2 is back, and fails as before", said, packages.FAILS)
        said = self._console.root("rpm -q hello libgreeting")
        expected = "hello-2.0-1.noarch\nlibgreeting-2.0-1.noarch\n"
        self._proof.equal("rpm has version 2 and what came with it", said, expected)
        self._check_written(*self._written)

    def _changing_ones_mind(self) -> None:
        self._begin("A change of mind before the reboot")
        self._proof.claim("An undo before the reboot leaves no trace of the rollback.")
        before = self._state()
        self._console.root("fs-rollback rollback --yes")
        self._proof.equal("something has changed now", self._state() != before, True)
        said = self._console.root("fs-rollback undo --yes")
        self._proof.says("it says that it is canceled", said, "Rollback canceled")
        self._proof.equal("subvolumes, store and next boot are as before", self._state(), before)
        self._console.reboot()
        self._console.root("hello", code=127)
        self._proof.equal("after a reboot too", self._state(), before)

    def _interrupting(self) -> None:
        self._begin("Ctrl-C in the middle of an upgrade")
        packages.offer(self._sandbox.repository, packages.VERSION_3)
        self._say(
            "Version 3 comes in two packages. When one is installed, the script of the other takes"
            " its time, and somebody loses patience. dnf 5 ends at once then."
        )
        self._proof.claim("Ctrl-C leaves half an upgrade, and the record says so.")
        said = self._console.root_interrupts("dnf -y upgrade", packages.WAITS)
        target = self._proof.one_line("the snapshot was taken before", said, _LINE)[1]
        record = self._when_it_has_ended()
        self._proof.equal("it is the newest", record["name"], target)
        self._proof.equal("its record", record["transaction"]["outcome"], "interrupted")
        whole = "hello-2.0-1.noarch\nlibgreeting-2.0-1.noarch\n"
        said = self._console.root("rpm -q hello libgreeting")
        half = f"{whole}libgreeting-3.0-1.noarch\n"
        self._proof.equal("rpm has one package in two versions", said, half)
        said = self._console.root("fs-rollback list")
        self._proof.one_line(
            "the list names it", said, r" *\d+ .* pre +2 upgraded +interrupted +dnf -y upgrade"
        )
        said = self._console.root("fs-rollback show latest")
        self._proof.says("'show' says how it ended", said, target, "Outcome: interrupted", "3.0-1")
        said = self._console.root("fs-rollback status", code=1)
        self._proof.says(
            "'status' says what to do", said,
            "interrupted in the middle of 2 packages",
            "'fs-rollback rollback' returns to the state before it",
        )  # fmt: skip
        self._proof.claim("A rollback goes back to before the upgrade that was interrupted.")
        said = self._console.root("fs-rollback rollback --yes")
        self._proof.says("without being told where to", said, f" ({target}).")
        self._console.reboot()
        said = self._console.root("rpm -q hello libgreeting")
        self._proof.equal("each package has one version again", said, whole)
        said = self._console.root("rpm -V --noconfig hello libgreeting")
        self._proof.equal("rpm -V finds every file", said, "")
        self._check_written(*self._written)

    def _cleaning_up(self) -> None:
        self._begin("Cleaning up")
        self._proof.claim("Old roots can be deleted; the running system and its data stay whole.")
        old = [s["name"] for s in self._snapshots() if s["kind"] == "replaced"]
        self._console.root("fs-rollback list")
        self._console.root(f"fs-rollback delete {' '.join(old)}")
        kinds = {snapshot["kind"] for snapshot in self._snapshots()}
        self._proof.equal("no old root is left", kinds, {"pre"})
        self._proof.equal("and no subvolume or file of one", self._leftovers(), [])
        self._console.reboot()
        said = self._console.root("rpm -q hello")
        self._proof.equal("the machine boots as before", said, "hello-2.0-1.noarch\n")
        verified = self._console.root("rpm -V --noconfig --nodeps fs-rollback hello libgreeting")
        self._proof.equal("rpm finds every file of the packages", verified, "")
        self._check_written(*self._written)
        said = self._console.root("fs-rollback status")
        self._proof.says("status finds nothing to complain about", said, "Waiting: nothing")

    def _when_it_has_ended(self) -> dict[str, Any]:
        """Return the newest snapshot when the end of its transaction is known.

        That of dnf 5 is recorded milliseconds after the prompt.
        """
        deadline = time.monotonic() + _PATIENCE_S
        while (newest := self._snapshots()[-1])["transaction"]["outcome"] == "pending":
            if time.monotonic() > deadline:
                what = f"the end of the transaction is known after {_PATIENCE_S:.0f} s"
                raise CheckFailedError(what, "an outcome", newest)
            time.sleep(0.05)
        return newest

    def _check_written(self, *paths: str) -> None:
        for path in paths:
            found = self._sandbox.output("cat", path)
            self._proof.equal(f"{path} is as last written", found, self._written[path])

    def _state(self) -> dict[str, Any]:
        """Return what a command that changes nothing must leave as it is."""
        with self._sandbox.top() as top:
            store = sorted(os.listdir(top / "fs-snapshots"))
        status = self._status()
        del status["space"], status["device"]  # a reboot may get another loop device
        for device in status["health"]["devices"]:
            del device["path"]
        return {"subvolumes": self._sandbox.subvolumes(), "store": store, "status": status}

    def _leftovers(self) -> Sequence[str]:
        """Return what is in the top level or the store and is neither in use nor listed."""
        listed = {snapshot["name"] for snapshot in self._snapshots()}
        wanted = {"fs-snapshots"} | {f"fs-snapshots/{name}" for name in listed}
        # The writable copies that the boot menu has of them.
        wanted |= {f"fs-snapshots/try_{name[len('yum_') :]}" for name in listed}
        if self._sandbox.layout is Layout.NAMED:
            wanted |= {"root", "home"}
        else:
            # GRUB goes on reading /boot there.
            wanted |= {self._status()["running"]["path"].lstrip("/"), "boot"}
        with self._sandbox.top() as top:
            found = {*self._sandbox.subvolumes(), *os.listdir(top)}
        return sorted(found - wanted)

    def _newest_pre(self) -> str:
        return str([s["name"] for s in self._snapshots() if s["kind"] == "pre"][-1])

    def _snapshots(self) -> list[dict[str, Any]]:
        answer = json.loads(self._sandbox.output("fs-rollback", "list", "--json"))
        found: list[dict[str, Any]] = answer["snapshots"]
        return found

    def _status(self) -> dict[str, Any]:
        done = self._sandbox.run(["fs-rollback", "status", "--json"], check=False)
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer
