# SPDX-License-Identifier: GPL-2.0-or-later
"""A mounted ext4 root that is prepared for its conversion; only dracut is a stand-in.

The stand-in writes real archives, and does first what DRACUT_THEN says.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

from fs_rollback.convert.check import gather
from fs_rollback.convert.machine import machine
from fs_rollback.convert.plan import state
from fs_rollback.convert.prepare import prepare_machine
from fs_rollback.convert.prepare.prepare_machine import Observer
from tests import manifest
from tests.kernel.ext4_images import NEW, OLD, UUID, Tools, add_kernel, archive, write
from tests.kernel.machine import GRUB_CFG, run

STATE = "fs-snapshots/conversion/state.json"
LABEL = b"system_u:object_r:etc_t:s0\0"
ENTRY = f"boot/loader/entries/abc-{OLD}.conf"
# Written anew by a step and by its way back: they are newer then.
EDITED = (ENTRY, "etc/kernel/cmdline", "etc/default/grub", "boot/grub2/grubenv")
# Found nowhere else: bytes that no rewriting may touch.
_OPTIONS = f'root=UUID={UUID}  ro rootfstype=ext4 quiet rootflags=data=ordered,noatime a="b c"'
_DRACUT = """\
kind=usual
case "$*" in *"--add fs-rollback"*) kind=converts ;; esac
echo "$*" >> "{log}"
while [ $# -gt 2 ]; do shift; done
eval "$DRACUT_THEN"
cat "{archives}/$kind-$2" > "$1"
"""


class Ext4Root:
    """The machine: where it is mounted, and what was there before anything was prepared."""

    def __init__(self, root: Path, tools: Path) -> None:
        self.root = root
        self.tools = tools
        self.before = self.manifest()

    def manifest(self) -> manifest.Manifest:
        return manifest.manifest(self.root, exclude=["lost+found"])

    def expect_as_before(self, *but: str) -> None:
        """Check that every file is what it was; only directories may be newer, and what says so."""
        ignored = {
            path
            for path, entry in self.before.items()
            if entry["type"] == "directory" or path in but
        }
        told = [
            line
            for line in manifest.compare(self.before, self.manifest())
            if not any(line.startswith(f"{path!a}: modified") for path in ignored)
        ]
        assert not told, told

    def changed(self) -> dict[str, str]:
        """Return what is not as it was: each path, and "new", "missing" or "other"."""
        after = self.manifest()
        found = dict.fromkeys(self.before.keys() - after.keys(), "missing")
        for path, entry in after.items():
            old = self.before.get(path)
            if old is None:
                found[path] = "new"
            elif entry["type"] != "directory" and entry != old:
                found[path] = "other"
        return found

    def read(self, path: str) -> str:
        return (self.root / path).read_text()

    def dracut_calls(self) -> list[str]:
        log = self.tools / "log"
        return log.read_text().splitlines() if log.exists() else []

    def prepare(
        self, observe: Observer = lambda *_: None, *, at_next_boot: bool = True
    ) -> prepare_machine.Proposal:
        """Prepare it in this process."""
        now = datetime.now(timezone.utc)
        with machine.opened(str(self.root)) as found, prepare_machine.locked(found):
            known = gather.gather(found, backup=True, now=now)
            proposal = prepare_machine.propose(found, known, at_next_boot=at_next_boot, now=now)
            prepare_machine.carry_out(found, proposal, observe)
            return proposal

    def abort(self) -> None:
        """Take it back in this process."""
        with machine.opened(str(self.root)) as found, prepare_machine.locked(found):
            preparation = state.read(str(self.root))
            if preparation is None:  # one that was cut off at its very end
                prepare_machine.remove_leftovers(found)
            else:
                prepare_machine.take_back(found, preparation)


def fill(root: Path) -> None:
    """Add what is changed by a preparation, with all that has to be kept of it."""
    for version in (OLD, NEW):
        add_kernel(root, version, in_initramfs=False)
        image = root / f"boot/initramfs-{version}.img"
        image.chmod(0o600)
        label(image)
    write(root, ENTRY, read_entry(root).replace(f"root=UUID={UUID} ro quiet", _OPTIONS))
    write(root, "boot/grub2/grub.cfg", GRUB_CFG)
    block = f"# GRUB Environment Block\nsaved_entry=abc-{OLD}\n"
    write(root, "boot/grub2/grubenv", block + "#" * (1024 - len(block)))
    write(root, "etc/kernel/cmdline", f"{_OPTIONS}\n")
    write(
        root,
        "etc/default/grub",
        b"# \xff\n GRUB_CMDLINE_LINUX='rhgb  rootflags=data=journal'\nGRUB_TIMEOUT=5",
    )
    (root / "etc/dracut.conf.d").mkdir()
    for path, mode, owner in (
        (ENTRY, 0o640, 0), ("etc/kernel/cmdline", 0o600, 12), ("etc/default/grub", 0o664, 34),
    ):  # fmt: skip
        os.chown(root / path, owner, owner)
        (root / path).chmod(mode)
        label(root / path)


def read_entry(root: Path) -> str:
    return (root / ENTRY).read_text()


def label(path: Path) -> None:
    os.setxattr(path, "security.selinux", LABEL)


def about(path: Path) -> tuple[int, int, bytes]:
    """Return what must not be lost when a file is written anew."""
    status = path.stat()
    mode = stat.S_IMODE(status.st_mode)
    return mode, status.st_uid, os.getxattr(path, "security.selinux")


# What the dracut module puts into an image, of which the command looks for a part.
CONVERTS = (
    "usr/bin/btrfs-convert", "usr/bin/e2fsck", "usr/sbin/fs-rollback-convert",
    "usr/lib/python3/encodings/utf_8.py", "usr/lib/python3/btrfsutil.so",
    "usr/lib/python3/fs_rollback/convert/run/convert.py",
)  # fmt: skip


def write_tools(directory: Path, tools: Tools = Tools()) -> None:  # noqa: B008 - it is data
    """Write the programs that are found first, and the archives that dracut makes."""
    archives = directory / "archives"
    script = _DRACUT.format(log=directory / "log", archives=archives)
    tools._replace(builder=tools.builder and script).environment(directory)
    archives.mkdir()
    for version in (OLD, NEW):
        btrfs = f"usr/lib/modules/{version}/kernel/fs/btrfs/btrfs.ko.xz"
        for kind, names in {
            "usual": ["init", btrfs],
            "converts": ["init", btrfs, *CONVERTS],
            "without": ["init", btrfs.replace("btrfs", "xfs"), *CONVERTS],
            "says": ["init", btrfs, *CONVERTS, "etc/cmdline.d/95root-dev.conf"],
        }.items():
            text = "root=UUID=1 rootfstype=ext4 rootflags=rw,errors=remount-ro\n"
            (archives / f"{kind}-{version}").write_bytes(
                archive(names, text if kind == "says" else "")
            )


@contextmanager
def mounted(image: Path, directory: Path) -> Iterator[Path]:
    root = directory / "root"
    root.mkdir()
    run("mount", "-o", "loop,noatime", str(image), str(root))
    try:
        yield root
    finally:
        run("umount", "--recursive", str(root))
