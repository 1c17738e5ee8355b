#!/usr/bin/python3 -I
# SPDX-License-Identifier: GPL-2.0-or-later
"""What the Actions plugin of dnf 5 starts right before rpm runs, with the PID of dnf 5.

Nothing but the first request is here, and what to do where the rest cannot be loaded: a script is
compiled at each start. libdnf5-actions(8), mode=json: a JSON object a line, on stdin and stdout.
"""

import gc
import os
import sys

_PACKAGES = (
    b'{"op":"get","domain":"trans_packages","args":'
    b'{"output":["name","arch","evr","action","install_size"]}}\n'
)
_WITHOUT = (
    "Nothing was changed. To go on without a snapshot: --disable-plugin=actions (turns off the"
    " actions of all packages)."
)
# As in fs_rollback.system.hooks.transaction, which may be what cannot be loaded.
_NOT_OURS = ("/run/ostree-booted", "/run/systemd/container", "/run/.containerenv")


def _main() -> None:
    os.closerange(3, 65536)  # dnf 5 leaves files of its databases open, and a child of ours stays
    os.write(1, _PACKAGES)  # at once: dnf 5 makes the answer while Python loads the rest
    gc.disable()  # for a program as short as this one it is only work
    try:
        from fs_snapshot_dnf5 import run
    except Exception as error:  # noqa: BLE001 - a syntax error of another Python among them
        _go_without(error)
    else:
        run(int(sys.argv[1]))


def _go_without(reason: Exception) -> None:
    """Stop dnf 5, but not where there is nothing to protect."""
    import json

    sys.stdin.readline()
    # The root of a btrfs subvolume has inode 256, whatever cannot be loaded.
    if os.stat("/").st_ino == 256 and not any(map(os.path.exists, _NOT_OURS)):
        message = f"fs-snapshot cannot be loaded: {reason}. {_WITHOUT}"
        print(json.dumps({"op": "stop", "args": {"message": message}}))


if __name__ == "__main__":
    if len(sys.argv) != 2 or not sys.argv[1].isdecimal():  # a person has, not dnf 5
        print(f"usage: {sys.argv[0]} PID\nOnly dnf 5 starts this, with its PID.", file=sys.stderr)
        sys.exit(2)
    try:
        _main()
    except KeyboardInterrupt:  # said by its code; dnf 5 has the same signal
        os._exit(130)
