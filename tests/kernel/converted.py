# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine that was converted: its root in the top level, GRUB's files in its /boot, its state.

What its next boot finds is told from its files alone: boot entry, default subvolume, fstab.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import btrfsutil

from fs_rollback.cli import session
from fs_rollback.convert.finish import rename_root
from fs_rollback.convert.plan import state as states
from fs_rollback.convert.plan.plan import Preparation
from fs_rollback.convert.plan.steps import (
    BootOnce,
    MakeConverter,
    PreparingStep,
    RebuildImage,
    WriteFile,
)
from fs_rollback.convert.prepare import prepare_machine
from fs_rollback.core.boot.conversion_state import NEW_FSTAB, Stage
from fs_rollback.system.root import root_lines
from tests import manifest
from tests.kernel.boots import TOKEN, A, BootMachine
from tests.kernel.commands import Done, fs_rollback
from tests.kernel.machine import run
from tests.kernel.running import begin_boot
from tests.kernel.test_check import IMAGE

CONF = "etc/dracut.conf.d/90-fs-rollback.conf"
CONVERTER = "boot/initramfs-fs-rollback-convert.img"
ENTRY = "boot/loader/entries/A-fs-convert.conf"
KEPT = f"boot/initramfs-{A}.img.before-btrfs"
STATE = "fs-snapshots/conversion"
_OPTIONS = "fsck.mode=skip fs-rollback.convert=UUID="


def _no_words(_: str) -> None:
    pass


class Converted:
    """The machine, as `boot` made it and as its next boots find it."""

    def __init__(self, boot: BootMachine) -> None:
        self.boot = boot
        self.machine = boot.machine
        self.root = boot.root
        self.top = boot.machine.top

    def become(self, image: Path) -> None:
        """Become the machine that has this disk, and boot it."""
        self.unmount()
        self._hide()
        self.machine.image = image
        self.start()

    def create(self) -> None:
        """Make it what `convert run` leaves behind."""
        root = self.root
        (root / f"boot/vmlinuz-{A}").write_bytes(IMAGE)
        self.machine.write(root, "usr/lib/systemd/systemd", "#!\n")
        (root / "usr/lib/systemd/systemd").chmod(0o755)
        self.machine.write(root, "etc/default/grub", 'GRUB_CMDLINE_LINUX="quiet"\n')
        letter = root / "home/user/letter"
        (root / "home/user").chmod(0o700)
        shutil.chown(root / "home/user", 1000, 1000)
        os.link(letter, root / "home/user/same")
        (root / "home/user/link").symlink_to("letter")
        btrfsutil.create_subvolume(str(root / "ext2_saved"))
        self.machine.write(root, "ext2_saved/image", "the ext4\n")
        entry = self.boot.entry_of(A).read_text()
        text = entry.replace("quiet", _OPTIONS + self.machine.uuid)
        steps: tuple[PreparingStep, ...] = (
            WriteFile(NEW_FSTAB, None, "it was moved", "a test"),
            WriteFile(CONF, None, "add_drivers\n", "a test"),
            RebuildImage(A, f"boot/initramfs-{A}.img"),
            MakeConverter(A, CONVERTER),
            WriteFile(ENTRY, None, text, "a test"),
            BootOnce("A-fs-convert.conf", "a test"),
        )
        for path, content in {
            CONF: "add_drivers\n",
            KEPT: "old\n",
            CONVERTER: "c\n",
            ENTRY: text,
        }.items():
            self.machine.write(root, path, content)
        fstab = self.machine.read("etc/fstab")
        state = Preparation(
            Stage.CONVERTED, "2026-11-26T03:00:00Z", "/dev/x", self.machine.uuid, fstab, steps, 7
        )
        prepare_machine._make_directory(str(root))
        states.write(str(root), state)

    def unmount(self) -> None:
        subprocess.run(("umount", "--quiet", "--recursive", str(self.root)), check=False)

    def start(self) -> None:
        """Boot it: the root that the default entry names, then what its fstab mounts."""
        self.unmount()
        self._look()
        options = self.boot.entry(self.boot.default_name())["options"].split()
        flags = [word[10:] for word in options if word.startswith("rootflags=")]
        self._hide()
        begin_boot(self.root)
        self._mount(",".join(["noatime", *flags]), self.root)
        for line in (self.root / "etc/fstab").read_text().splitlines():
            fields = line.split()
            if len(fields) > 2 and not line.startswith("#"):
                assert fields[0] == f"UUID={self.machine.uuid}"
                assert fields[2] == "btrfs"
                if fields[1] != "/":
                    self._mount(f"noatime,{fields[3]}", self.root / fields[1].lstrip("/"))
                elif "subvol" in fields[3]:  # as systemd-remount-fs(8) would find it
                    found = btrfsutil.subvolume_path(str(self.root), 0)
                    assert f"subvol={found}" in fields[3].split(","), (found, line)

    def _mount(self, options: str, place: Path) -> None:
        run("mount", "-o", f"loop,{options}", str(self.machine.image), str(place))

    def _look(self) -> None:
        """Mount the top level for the test's own eyes; the command would call that in use."""
        if not self.top.is_mount():
            self._mount("subvolid=5", self.top)

    def _hide(self) -> None:
        subprocess.run(("umount", "--quiet", str(self.top)), check=False)

    def command(self, *words: str) -> Done:
        self._hide()
        return fs_rollback(self.root, *words)

    def finish(self, *words: str) -> Done:
        return self.command("convert", "finish", *words)

    def leave_top_level(self) -> None:
        """Do the first phase of the layout, and the reboot after it."""
        done = self.finish("--layout")
        assert done.code == 0, done
        self.start()

    def give_names(self) -> None:
        """Do the second phase in this process."""
        self._hide()
        with session.writing(str(self.root)) as (host, store):
            layout = root_lines.read_layout(host)
            wanted = rename_root.look(host, layout)
            rename_root.refuse(host, store, layout, wanted)
            rename_root.give_names(host, store, layout, wanted, _no_words)

    # What a test reads of it.

    def seen(self) -> dict[str, manifest.Manifest]:
        """Return all that a user sees: the root, /home and /boot, whatever these are."""
        files = ("etc/fstab", "etc/kernel/cmdline")
        own = [
            *files,
            "fs-snapshots",
            "home",
            "boot",
            "var/lib/rpm",
            "etc",
            "etc/kernel",
            ".",
            "ext2_saved",
        ]
        return {
            "root": manifest.manifest(self.root, exclude=own),
            "home": manifest.manifest(self.root / "home"),
            "boot": manifest.manifest(
                self.root / "boot", exclude=["loader", f"loader/entries/{TOKEN}-{A}.conf"]
            ),
        }

    def expect_whole(self, before: dict[str, manifest.Manifest]) -> None:
        """Check that the next boot finds the same root, with all that was in it."""
        self.start()
        for name, found in self.seen().items():
            # What is nested in these was carried over to them.
            newer = ("'var': modified", "'var/lib': modified")
            told = [n for n in manifest.compare(before[name], found) if not n.startswith(newer)]
            assert not told, (name, told)
        self._look()
        entry = self.boot.entry(self.boot.default_name())
        for key in ("linux", "initrd"):
            assert (self.top / entry[key].lstrip("/")).stat().st_size, key
        self._hide()

    def subvolumes(self) -> list[str]:
        """Return the paths of all but snapshots and what is nested."""
        self._look()
        found = sorted(p for p, _ in btrfsutil.SubvolumeIterator(str(self.top), 5))
        self._hide()
        return [path for path in found if "/" not in path]

    def names_at_top(self) -> list[str]:
        self._look()
        found = sorted(p.name for p in self.top.iterdir())
        self._hide()
        return found

    def expect_named(self) -> None:
        """Check that nothing is left to do: names, files, and nothing else at the top level."""
        uuid = f"UUID={self.machine.uuid}"
        assert self.machine.read("etc/fstab").splitlines() == [
            "# made by a test",
            f"{uuid} /      btrfs   defaults,subvol=root 0 0",
            f"{uuid} /home  btrfs   defaults,subvol=home 0 0",
            f"{uuid} /boot  btrfs   defaults,subvol=boot 0 0",
        ]
        line = f"root={uuid} rootflags=subvol=root ro quiet\n"
        assert self.machine.read("etc/kernel/cmdline") == line
        self._look()
        assert self.boot.entry(f"{TOKEN}-{A}")["options"] == line.rstrip("\n")
        assert list((self.top / "root/home").iterdir()) == []
        leftovers = {p.name for p in (self.top / "fs-snapshots").iterdir()}
        assert not {name for name in leftovers if name.startswith("new_")}
        self._hide()
        assert self.machine.read("etc/default/grub") == 'GRUB_CMDLINE_LINUX="quiet"\n'
        # What held a nested subvolume stays at the top level with it.
        assert [n for n in self.names_at_top() if n not in ("var", "ext2_saved")] == [
            "boot", "fs-snapshots", "home", "root",
        ]  # fmt: skip
