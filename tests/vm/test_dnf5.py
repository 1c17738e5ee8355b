# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine whose only dnf is dnf 5: an offline transaction, then Ctrl-C in an upgrade."""

from __future__ import annotations

import pytest

from tests.sandbox.engine import Engine
from tests.sandbox.rpms import Package
from tests.vm.design import Boot, Design, Root
from tests.vm.machine import Machine, repository_files
from tests.vm.qemu import LostMachineError
from tests.vm.stories import Story, Telling, wanted

_DESIGN = Design(Root.NAMED, Boot.EXT4, subvolumes=("home",))

# What lies in the store, a transaction a line: fs-rollback itself would fill in what nobody has
# written there.
_RECORDS = """\
import json, pathlib
for path in sorted(pathlib.Path("/run/top/fs-snapshots").glob("yum_*.json")):
    said = json.loads(path.read_text())["transaction"]
    print(said["outcome"], said["tool"], said["history_id"], *said["command_line"], flush=True)
"""

# Somebody at a terminal: the key goes to dnf and to all that it has started there.
_CTRL_C = """\
import os, pathlib, pty, subprocess, sys, threading, time
marker = pathlib.Path(sys.argv[1])
pid, terminal = pty.fork()
if pid == 0:
    os.execvp(sys.argv[2], sys.argv[2:])

def press():
    while not marker.exists():
        time.sleep(0.05)
    os.write(terminal, b"\\x03")

threading.Thread(target=press, daemon=True).start()
try:
    while said := os.read(terminal, 4096):
        sys.stdout.buffer.write(said)
except OSError:
    pass
_, status = os.waitpid(pid, 0)
died = time.monotonic()
sys.stdout.flush()
assert os.waitstatus_to_exitcode(status) != 0, status
while b"pending" in (said := subprocess.check_output(["python3", "files/records.py"])):
    assert time.monotonic() < died + 20, said
print(f"recorded {time.monotonic() - died:.1f} s after the end", said.decode(), flush=True)
"""

_SEES_RECORDS = """
mkdir /run/top
mount -o subvolid=5 "$(findmnt --noheadings --nofsroot --output SOURCE /)" /run/top
records() { python3 files/records.py | tee records; }
# The end of a transaction is written right after the prompt.
ended() { for _ in $(seq 100); do records; grep pending records || break; sleep 0.1; done; }
"""

_PREPARED = """
[ "$(readlink /usr/bin/dnf)" = dnf5 ]
rpm --query --all | grep -e fs-rollback -e fs-snapshot | tee installed
[ "$(wc -l <installed)" -eq 3 ]
rpm --verify fs-rollback libdnf5-plugin-fs-snapshot
[ -z "$(systemctl --failed --plain --no-legend)" ]
dnf --assumeyes upgrade 2>&1 | tee upgrade
[ "$(grep -c 'fs-snapshot: snapshotting /: ' upgrade)" -eq 1 ]
[ "$(grep -c fs-snapshot: upgrade)" -eq 1 ]
[ "$(app)" = 2 ]
ended
grep -Ex 'done dnf5 2 dnf --assumeyes upgrade' records
fs-rollback check
fs-rollback shell latest -- sh -c 'cat /run/host/container-manager; app; exit 7' >inside || code=$?
[ "${code:-0}" -eq 7 ]
[ "$(cat inside)" = "$(printf 'systemd-nspawn\\n1')" ]
cp --archive /etc/fs-rollback.conf /root/
echo 'guard = updates' >>/etc/fs-rollback.conf
dnf5 --assumeyes install --offline extra
# Its own reboot would end this job without an answer.
DNF_SYSTEM_UPGRADE_NO_REBOOT=1 dnf5 --assumeyes offline reboot
[ -L /system-update ]
"""

_INTERRUPTED = """
[ ! -L /system-update ]
journalctl -b -1 --no-pager >journal
grep 'dnf5.*: Transaction complete! Cleaning up and rebooting' journal
grep 'reboot requested .*dnf5-offline-transaction.service' journal
# systemd did not have to kill the process that writes down the end.
not grep 'Killing process' journal
[ "$(extra)" = 1 ]
rpm --verify extra
[ "$(records | wc -l)" -eq 2 ]
tail -n 1 records | grep -Ex 'done dnf5 3 dnf5 --assumeyes install --offline extra'
dnf5 history list | tee history
grep -E '^ *3 dnf5 --assumeyes install --offline' history
[ -z "$(systemctl --failed --plain --no-legend)" ]
# The boot after the update is guarded, and ends the guard.
grep fs_rollback.guard /proc/cmdline
for second in $(seq 60); do
    fs-rollback guard status | grep '^The next boot is not guarded' && break
    sleep 1
done
mv /root/fs-rollback.conf /etc/

python3 files/ctrl-c.py /run/slow dnf5 --assumeyes upgrade
[ "$(rpm --query app slow)" = "$(printf 'app-2-1.noarch\\napp-3-1.noarch\\nslow-1-1.noarch')" ]
records | grep -Ex 'interrupted dnf5 4 dnf5 --assumeyes upgrade'
code=0
fs-rollback status >status || code=$?
cat status
[ "$code" -eq 1 ]
grep interrupted status
fs-rollback rollback --yes
code=0
dnf5 --assumeyes reinstall extra 2>refused || code=$?
cat refused
[ "$code" -eq 1 ]
grep 'is waiting for a reboot' refused
[ "$(records | wc -l)" -eq 3 ]
"""

_ALL_WELL = """
rpm --query app slow extra
[ "$(rpm --query app slow)" = "$(printf 'app-2-1.noarch\\nslow-1-1.noarch')" ]
[ "$(app)" = 2 ]
rpm --verify app slow extra fs-rollback libdnf5-plugin-fs-snapshot
dnf5 check
journalctl -b -u fs-rollback-boot --no-pager | grep 'came up in the new root'
fs-rollback status
fs-rollback check
dnf5 --assumeyes upgrade
[ "$(rpm --query slow)" = slow-3-1.noarch ]
ended
# dnf 5 gives the number again that the interrupted one had.
[ "$(cut -d ' ' -f 1,3 records)" = "$(printf 'done 2\\ndone 3\\ninterrupted 4\\ndone 4')" ]
[ -z "$(systemctl --failed --plain --no-legend)" ]
"""

_SCRIPTS = {"records.py": _RECORDS.encode(), "ctrl-c.py": _CTRL_C.encode()}


def _package(name: str, version: str, pre: str = "", *, requires: tuple[str, ...] = ()) -> Package:
    files = {f"/usr/bin/{name}": f"#!/bin/sh\necho {version}\n"}
    scriptlets = {"pre": pre} if pre else {}
    return Package(name, version, files=files, requires=requires, scriptlets=scriptlets)


# Ctrl-C is for dnf alone: if rpm saw the script die first, it would still go on.
_WAITS = "trap '' INT\nexec >/dev/null 2>&1\ntouch /run/slow\nsleep 600"
# Installed after app, because it needs it.
_SLOW = _package("slow", "2", _WAITS, requires=("app = 3",))


def _interrupted(machine: Machine) -> None:
    offered = [_package("app", "2"), _package("extra", "1")]
    machine.boot(_SEES_RECORDS + _PREPARED, {**repository_files(offered), **_SCRIPTS})
    # Into system-update.target: nothing does a job there, and it ends in a reboot.
    with pytest.raises(LostMachineError, match="without an answer"):
        machine.boot("true")
    offered = [_package("app", "3"), _SLOW, _package("extra", "1")]
    machine.boot(_SEES_RECORDS + _INTERRUPTED, {**repository_files(offered), **_SCRIPTS})
    offered = [_package("slow", "3")]
    machine.boot(_SEES_RECORDS + _ALL_WELL, {**repository_files(offered), **_SCRIPTS})


STORIES = [
    Story(
        "dnf5",
        _DESIGN,
        _interrupted,
        packages=(_package("app", "1"), _package("slow", "1")),
        engine=Engine.DNF5,
    )
]


@pytest.mark.parametrize("story", wanted(STORIES), ids=str)
def test_dnf5(story: Story, telling: Telling) -> None:
    telling.hear(story)
