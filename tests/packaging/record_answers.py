# SPDX-License-Identifier: GPL-2.0-or-later
"""Records what the command answers in the life of two machines, for tests/packaging/stand_in.py.

`python -m tests.packaging.record_answers`, as root, writes tests/packaging/answers/ anew: a file
for each state of a machine on a real btrfs, with a loader that can guard a boot. Two things cannot
be had from a machine that is only mounted, and are put in: that it runs a trial, and the journal
of the boot that failed. Names have other times, so that those of both machines are the same.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fs_rollback.core.guard.state import Failure, Guard
from fs_rollback.system.store import guards
from tests.kernel import conftest, running
from tests.kernel.boots import A, BootMachine, making
from tests.kernel.commands import Done, fs_rollback
from tests.kernel.machine import Machine
from tests.kernel.test_check import IMAGE
from tests.kernel.test_coverage import ENGINE5, OURS5, Tree
from tests.kernel.test_guard import told
from tests.kernel.upgrades import rpm
from tests.sandbox.rpms import Package, build

ANSWERS = Path(__file__).parent / "answers"
_LOOKS = (
    ("status", "--json"),
    ("check", "--json"),
    ("list", "--json"),
    ("guard", "status", "--json"),
)
_LOG = ("httpd: (98)Address already in use", "systemd: Failed to start httpd.service")


class Recorder:
    """One machine, and the answers of its states by the name of the state."""

    def __init__(self, boot: BootMachine) -> None:
        self.boot = boot
        self._names: dict[str, str] = {}
        self.states: dict[str, list[dict[str, Any]]] = {}

    def ask(self, state: str, *words: str) -> Done:
        """Run the command in this state, and keep what it answers."""
        ended = fs_rollback(self.boot.root, *words)
        texts = ended.out.splitlines() if words[0] == "diff" else [ended.out]
        rows = [json.loads(self._cleaned(text)) for text in texts if text]
        answer = rows if words[0] == "diff" else rows[0] if rows else None
        found = {
            "words": [self._cleaned(word) for word in words],
            "code": ended.code,
            "answer": answer,
        }
        self.states.setdefault(state, []).append({**found, "err": self._cleaned(ended.err)})
        return ended

    def look(self, state: str) -> str:
        """Ask all that only looks; returns the root that the last rollback replaced, if any."""
        status, *_ = [self.ask(state, *words).json for words in _LOOKS]
        return str((status["last_rollback"] or {}).get("replaced", ""))

    def put_in(self, state: str, **keys: str) -> None:
        """Put into the answer of `status` what only a machine that runs can say."""
        for row in self.states[state]:
            if row["words"][0] == "status":
                row["answer"].update({key: self._cleaned(text) for key, text in keys.items()})

    def _cleaned(self, text: str) -> str:
        """Leave out what is of the machine that recorded."""
        root = str(self.boot.root)
        text = text.replace(f" --root {root}", "").replace(f"{root}/", "/").replace(root, "/")
        text = re.sub(r"/dev/loop\d+", "/dev/sda3", text)
        return re.sub(r"(?<=yum_|ced_|hot-)\d{14}", self._renamed, text)

    def _renamed(self, found: re.Match[str]) -> str:
        return self._names.setdefault(found[0], f"202611301000{len(self._names):02}")

    def write(self, *states: str) -> None:
        """Write these states, or all."""
        ANSWERS.mkdir(exist_ok=True)
        for state in states or tuple(self.states):
            rows = self.states[state]
            lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
            (ANSWERS / f"{state}.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def record_failed(recorder: Recorder) -> None:
    """Tell of a machine that is updated, guarded, fails, goes back, and is undone."""
    name = _record_healthy(recorder)
    _fail(recorder.boot, name)
    recorder.look("fallen")
    recorder.put_in("fallen", trial=name)
    recorder.ask("fallen", "rollback", name, "--yes", "--json")
    _go_back(recorder, name)


def record_asked(recorder: Recorder) -> None:
    """Tell of a machine whose update is healthy, and is taken back when somebody asks for it."""
    name = _record_healthy(recorder)
    recorder.ask("healthy", "rollback", name, "--yes", "--json")
    recorder.look("asked")
    _reboot(recorder.boot)
    replaced = recorder.look("returned")
    recorder.ask("returned", "diff", replaced, "--json")


def _record_healthy(recorder: Recorder) -> str:
    """Record all from the beginning to an update that is healthy; returns its snapshot."""
    boot = recorder.boot
    _furnish(boot)
    recorder.look("empty")
    recorder.ask("empty", "guard", "on", "--json")
    first, _ = boot.transact()
    recorder.look("before")
    recorder.ask("before", "guard", "on", "--json")
    recorder.look("armed")
    recorder.ask("armed", "guard", "off", "--json")
    recorder.ask("before", "create", "--message=all is well", "--json")
    recorder.ask("before", "pin", first, "--json")
    recorder.look("kept")
    (made,) = (row.name for row in boot.machine.snapshots() if row.name != first)
    recorder.ask("kept", "delete", "--dry-run", made, "--json")
    for command, which in (("delete", first), ("show", "no"), ("unpin", first), ("delete", made)):
        recorder.ask("kept", command, which, "--json")
    name, _ = boot.transact(lambda: _update(boot))
    recorder.look("updated")
    recorder.ask("updated", "rollback", "--dry-run", "--json")
    recorder.ask("updated", "rollback", name, "--dry-run", "--json")
    recorder.ask("updated", "diff", name, "--json")
    recorder.ask("updated", "guard", "on", "--json")
    recorder.look("guarded")
    _begin_boot(boot)
    recorder.look("judged")
    recorder.ask("judged", "guard", "off", "--json")
    recorder.look("healthy")
    return name


def _go_back(recorder: Recorder, name: str) -> None:
    boot = recorder.boot
    recorder.look("waiting")
    recorder.ask("waiting", "rollback", name, "--yes", "--json")
    recorder.ask("waiting", "undo", "--dry-run", "--json")
    recorder.ask("waiting", "undo", "--yes", "--json")
    assert fs_rollback(boot.root, "rollback", name, "--yes").code == 0
    _reboot(boot)
    replaced = recorder.look("back")
    recorder.ask("back", "diff", replaced, "--json")
    recorder.ask("back", "undo", "--to-replaced", "--dry-run", "--json")
    recorder.ask("back", "guard", "acknowledge", "--json")
    recorder.ask("back", "undo", "--yes", "--json")
    recorder.ask("back", "undo", "--to-replaced", "--yes", "--json")
    recorder.look("undoing")
    _reboot(boot)
    recorder.look("undone")


def _reboot(boot: BootMachine) -> None:
    boot.reboot()
    assert fs_rollback(boot.root, "settle").code == 0


def _furnish(boot: BootMachine) -> None:
    """Give it what a boot needs beside its files, dnf 5 with the plugin, and the first package."""
    for number, name in enumerate(boot.files_of(A)):
        (boot.place / name).write_bytes(b"initramfs\n" if number else IMAGE)
    tree = Tree(boot.root)
    tree.add({"usr/lib/systemd/systemd": "#!\n"}, ENGINE5, OURS5).command("dnf5")
    os.close(tree.descriptor)
    _change_package(boot, "1")


def _update(boot: BootMachine) -> None:
    _change_package(boot, "2")
    (boot.root / "usr/bin/app").write_text("version 2\n")
    (boot.root / "etc/app.conf").write_text("setting 2\n")


def _change_package(boot: BootMachine, version: str) -> None:
    place = boot.machine.image.parent / f"packages-{version}"
    packages = build((Package("app", version, files={"/usr/bin/app": version}),), place)
    rpm(boot.machine, "--upgrade", *packages)


def _begin_boot(boot: BootMachine) -> None:
    """Start the guarded boot as GRUB does: it forgets the entry for that boot."""
    values = told(boot)
    del values["next_entry"]
    boot.write_grubenv(values)
    running.begin_boot(boot.root)


def _fail(boot: BootMachine, name: str) -> None:
    with boot.machine.writing() as (_, store):
        reason = "the guarded boot was not healthy: httpd.service is failed"
        subvolume = store.subvolumes()[name]
        failure = Failure(
            snapshot=name,
            uuid=subvolume.uuid,
            since="dnf upgrade",
            reason=reason,
            log=_LOG,
            time="2026-11-30T00:00:00Z",
            boot_id="that of the boot before",
        )
        guards.write(store, Guard(None, failure))


def main() -> None:
    """Make the machines, and write what they answer."""
    mounts = conftest._private_mounts.__wrapped__  # type: ignore[attr-defined]
    mounts()
    running.install()
    with _recorder() as recorder:
        record_failed(recorder)
        recorder.write()
    with _recorder() as recorder:
        record_asked(recorder)
        recorder.write("healthy", "asked", "returned")


@contextmanager
def _recorder() -> Iterator[Recorder]:
    with tempfile.TemporaryDirectory(prefix="record-") as directory:
        os.environ["CACHE_DIRECTORY"] = directory
        machine = Machine(Path(directory), "named")

        def make(_layout: str) -> Machine:
            machine.create()
            return machine

        try:
            with making(make) as make_boot:
                yield Recorder(make_boot("ext4"))
        finally:
            machine.destroy()


if __name__ == "__main__":
    main()
