# SPDX-License-Identifier: GPL-2.0-or-later
"""What a machine has in it to do jobs, and the words in which it answers.

A job comes as a tar file written raw to the disk `payload`; its output goes to the second serial
port as it is made, then one line that says that it has ended.
"""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Mapping
from typing import NamedTuple, Optional

# The answer is a number that is nowhere in what the machine gets, so no output that is cut short,
# repeated or left from another boot can look like it.
ANSWER_OFFSET = 123

REPOSITORY = "/run/job/files/repository"
_PORT = "/dev/ttyS1"
_BEGIN = "vm-job-began"
_END = "vm-job-ended"

_SCRIPT = f"""#!/bin/sh
# Runs the job that the host has sent, answers, and switches the machine off.
mkdir -p /run/job/files
cd /run/job
if ! tar --extract --file=/dev/disk/by-id/virtio-payload; then
    echo 'vm-job: no payload' >/dev/console
    exec systemctl poweroff --force
fi
# raw: a carriage return would be added to each line.
stty -F {_PORT} raw -echo
read -r token <token
# The firmware writes to this port as well.
echo "{_BEGIN} $token" >{_PORT}
{{
    sh ./job 2>&1 </dev/null
    echo $? >code
}} | cat >{_PORT}
sync
read -r code <code
echo "{_END} $((token + {ANSWER_OFFSET})) $code" >{_PORT}
exec systemctl poweroff --no-block
"""

# After everything that is started at boot, as an administrator comes after it.
_UNIT = """\
[Unit]
Description=The job of a test
After=multi-user.target

[Service]
Type=oneshot
ExecStart=/usr/libexec/vm-job
TimeoutStartSec=infinity
Environment=HOME=/root LC_ALL=C.UTF-8
"""

# A machine that stops there waits for somebody at its console; nobody is: let it be lost at once.
_EMERGENCY = """\
[Service]
ExecStart=
ExecStart=-/bin/sh -c 'echo vm: emergency mode; systemctl --failed --no-pager; \
journalctl -b -p warning -n 40 --no-pager; systemctl poweroff --force --force'
StandardOutput=tty
TTYPath=/dev/ttyS0
"""

_SYSTEM = "etc/systemd/system"


class Payload(NamedTuple):
    """What a machine gets for one boot: the tar file, and the answer that it shall give."""

    archive: bytes
    answer: int


class Answer(NamedTuple):
    """What came back from a job that ended."""

    output: str
    code: int


def files() -> dict[str, str]:
    """Return the files of a machine that make it do jobs; what begins with #! is executable."""
    return {
        "usr/libexec/vm-job": _SCRIPT,
        f"{_SYSTEM}/vm-job.service": _UNIT,
        f"{_SYSTEM}/emergency.service.d/vm.conf": _EMERGENCY,
        f"{_SYSTEM}/rescue.service.d/vm.conf": _EMERGENCY,
    }


def links() -> dict[str, str]:
    """Return the symbolic links that go with `files`, each with its target."""
    return {
        f"{_SYSTEM}/multi-user.target.wants/vm-job.service": "../vm-job.service",
        f"{_SYSTEM}/default.target": "/usr/lib/systemd/system/multi-user.target",
    }


def payload(job: str, files: Mapping[str, bytes], *, token: int) -> Payload:
    """Pack a job, the text of a shell script, and files for /run/job/files.

    `token` is a number that no other boot has.
    """
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        contents = {f"files/{name}": data for name, data in files.items()}
        contents |= {"job": job.encode(), "token": f"{token}\n".encode()}
        for name, data in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return Payload(packed.getvalue(), token + ANSWER_OFFSET)


def answer(received: str, expected: int) -> Optional[Answer]:
    """Read what came over the port; None if the job has not said that it ended."""
    begin, end = f"{_BEGIN} {expected - ANSWER_OFFSET}", f"{_END} {expected}"
    pattern = rf"^.*{begin}\n(.*?)^{end} (\d+)\n"
    found = re.search(pattern, received, re.MULTILINE | re.DOTALL)
    return Answer(found.group(1), int(found.group(2))) if found else None
