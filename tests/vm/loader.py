# SPDX-License-Identifier: GPL-2.0-or-later
"""Who decides what boots: GRUB's way with boot entries, done here, or systemd-boot under OVMF.

Fedora's GRUB cannot be had here; newer ones of Debian read boot entries as well, see grub.py.
`GrubLike` does what Fedora's does with the machine's own files, and QEMU then gets the kernel, the
initramfs and the command line that the chosen entry names: quicker by half a boot, and it shows the
order that Fedora's has. It knows nothing of the product and shares no code with it.

Read for it: grub-core/commands/blscfg.c in Fedora's packages of GRUB 2.06, lib/envblk.c.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import lzma
import re
import shutil
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Callable, Optional, Protocol

from tests.sandbox.base import built_once, cache_directory

from .base import OVMF
from .design import Boot
from .disk import Disks


class NoBootError(Exception):
    """The loader finds nothing that it can start: the machine stands at its prompt."""


class Loader(Protocol):
    """What reads the disks when the machine is switched on."""

    def arguments(self, disks: Disks, directory: Path) -> list[str]:
        """Return what QEMU needs to start what the loader chooses; files go into `directory`.

        Raises NoBootError where a person would see the loader's error message.
        """


@dataclass(frozen=True)
class Chosen:
    """What GRUB would start: the entry's name, files of the host, and the kernel's command line."""

    entry: str
    kernel: Path
    initramfs: Path
    command_line: str


class GrubLike:
    """GRUB with Fedora's blscfg, as far as it matters which entry boots and what that is.

    `prefix` is the path of its directory (/boot/grub2 in the machine) in the filesystem that it was
    installed for; like the real one it keeps it whatever happens to that filesystem later.
    `at_the_menu` is a person who chooses: given the names of the entries in the order of the menu,
    it returns one of them.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self.at_the_menu: Optional[Callable[[Sequence[str]], str]] = None

    def arguments(self, disks: Disks, directory: Path) -> list[str]:
        """Return the arguments for a direct boot of what the entries say; see Loader."""
        chosen = self.choose(disks, directory)
        self._forget_the_one_shot(disks)
        return [
            "-kernel", str(_elf(chosen.kernel)),
            "-initrd", str(chosen.initramfs),
            "-append", chosen.command_line,
        ]  # fmt: skip

    def choose(self, disks: Disks, directory: Path) -> Chosen:
        """Read the disk as it is now; copies of the chosen files are left in `directory`."""
        with disks.as_the_loader() as top:
            configuration = self._read(top, f"{self._prefix}/grub.cfg")
            if "blscfg" not in configuration:
                raise NoBootError("grub.cfg has no blscfg")
            variables = _environment(self._read(top, f"{self._prefix}/grubenv"))
            entries = _entries(top, variables.get("blsdir", "/loader/entries"))
            choose = self.at_the_menu
            name = choose(list(entries)) if choose else _default(entries, variables)
            values = entries[name]
            kernel = self._copy(top, values["linux"], directory / "kernel")
            words = _expand(values.get("initrd", ""), variables).split()
            initramfs = directory / "initramfs"
            with initramfs.open("wb") as file:
                for word in words:
                    file.write(_inside(top, word).read_bytes())
        # GRUB puts the kernel's name first; a direct boot does not.
        options = _expand(values.get("options", ""), variables)
        line = f"BOOT_IMAGE=(hd0){values['linux']} {options}".strip()
        return Chosen(name, kernel, initramfs, line)

    def _forget_the_one_shot(self, disks: Disks) -> None:
        """Do what `set next_entry=; save_env next_entry` does, where GRUB can write."""
        if not disks.loader_writes:
            return
        path = f"{self._prefix}/grubenv"
        with disks.as_the_loader() as top:
            block = self._read(top, path)
        changed = re.sub(r"^next_entry=.*$", "next_entry=", block, flags=re.MULTILINE)
        if changed != block:
            whole = changed.rstrip("#").ljust(len(block), "#")
            disks.overwrite_as_the_loader(path, whole.encode())

    def _read(self, top: Path, path: str) -> str:
        return _inside(top, path).read_text()

    def _copy(self, top: Path, path: str, target: Path) -> Path:
        shutil.copyfile(_inside(top, path), target)
        return target


class SystemdBoot:
    """systemd-boot for real, under OVMF; it keeps the firmware's variables from boot to boot."""

    def __init__(self, variables: Path) -> None:
        self._variables = variables

    def arguments(self, disks: Disks, directory: Path) -> list[str]:
        """Return the arguments for a boot through the firmware; see Loader."""
        return firmware(self._variables)


def firmware(variables: Path) -> list[str]:
    """Return the arguments for a machine with UEFI, whose variables are in a file of its own."""
    if not variables.exists():
        shutil.copyfile(OVMF / "OVMF_VARS_4M.fd", variables)
    flash = "if=pflash,format=raw"
    return [
        "-machine", "q35",
        "-drive", f"{flash},readonly=on,file={OVMF / 'OVMF_CODE_4M.fd'}",
        "-drive", f"{flash},file={variables}",
    ]  # fmt: skip


def installed(disks: Disks, directory: Path) -> Loader:
    """Return the loader of a machine as it was installed."""
    if disks.design.boot is Boot.ESP:
        return SystemdBoot(directory / "variables.fd")
    return GrubLike(f"{disks.design.seen_by_loader}/grub2")


def _inside(top: Path, path: str) -> Path:
    """Return the file that GRUB finds at `path`, which has to begin with a slash."""
    found = top / path.lstrip("/")
    if not path.startswith("/") or not found.is_file():
        raise NoBootError(f"file `{path}' not found")
    return found


def _environment(block: str) -> dict[str, str]:
    if not block.startswith("# GRUB Environment Block\n"):
        raise NoBootError("invalid environment block")
    lines = (line for line in block.splitlines() if "=" in line and not line.startswith("#"))
    return dict(line.split("=", 1) for line in lines)


def _entries(top: Path, blsdir: str) -> dict[str, dict[str, str]]:
    """Return the entries in the order of the menu, the newest first; each as key and value."""
    directory = top / blsdir.lstrip("/")
    if not directory.is_dir():
        raise NoBootError(f"no such directory: {blsdir}")
    found = {path.stem: _parse(path.read_text()) for path in directory.glob("*.conf")}
    usable = {name: values for name, values in found.items() if values.get("linux")}
    if not usable:
        raise NoBootError(f"no entries in {blsdir}")
    order = sorted(usable, key=functools.cmp_to_key(_compare_names), reverse=True)
    return {name: usable[name] for name in order}


def _parse(text: str) -> dict[str, str]:
    """Return the first value of each key; the values of several initrd lines are joined."""
    values: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.strip().partition(" ")
        if not key or key.startswith("#"):
            continue
        if key == "initrd" and key in values:
            values[key] += " " + value.strip()
        else:
            values.setdefault(key, value.strip())
    return values


def _default(entries: dict[str, dict[str, str]], variables: dict[str, str]) -> str:
    """Return the entry that boots when nobody touches a key.

    next_entry, then saved_entry: each the name of an entry, its title or its place in the menu;
    what names none leads to the first one.
    """
    wanted = variables.get("next_entry") or variables.get("saved_entry", "")
    names = list(entries)
    if wanted in entries:
        return wanted
    for name, values in entries.items():
        if values.get("title") == wanted:
            return name
    if wanted.isdigit() and int(wanted) < len(names):
        return names[int(wanted)]
    return names[0]


def _expand(text: str, variables: dict[str, str]) -> str:
    """Put GRUB's variables in; one that is not set is empty."""
    return re.sub(r"\$\{?(\w+)\}?", lambda match: variables.get(match.group(1), ""), text).strip()


def _compare_names(one: str, other: str) -> int:
    """Compare two names of entries, as name-version-release and part by part."""
    for mine, theirs in itertools.zip_longest(_parts(one), _parts(other), fillvalue=""):
        order = _compare_versions(mine, theirs)
        if order:
            return order
    return 0


def _parts(name: str) -> list[str]:
    parts = name.rsplit("-", 2)
    return parts if len(parts) == 3 else ["", *parts][-3:]


def _compare_versions(one: str, other: str) -> int:
    """Compare as rpm does: runs of digits as numbers, above runs of letters.

    A tilde is below everything, the end included; a plus is below everything but the end.
    """
    mine, theirs = (re.findall(r"[0-9]+|[A-Za-z]+|[~+]", text) for text in (one, other))
    for left, right in itertools.zip_longest(mine, theirs, fillvalue=""):
        if left == right:
            continue
        if "~" in (left, right):
            return -1 if left == "~" else 1
        if not left or not right:
            return 1 if left else -1
        if "+" in (left, right):
            return -1 if left == "+" else 1
        if left.isdigit() != right.isdigit():
            return 1 if left.isdigit() else -1
        keys = (int(left), int(right)) if left.isdigit() else (left, right)
        if keys[0] != keys[1]:
            return 1 if keys[0] > keys[1] else -1  # type: ignore[operator]
    return 0


def _elf(kernel: Path) -> Path:
    """Return the program inside a bzImage, unpacked, or the file itself if it is something else.

    QEMU starts such a program directly (PVH), which spares the machine seconds of unpacking.
    Offsets: Documentation/arch/x86/boot.rst.
    """
    image = kernel.read_bytes()
    if image[0x202:0x206] != b"HdrS":
        return kernel
    (sectors,) = struct.unpack_from("<B", image, 0x1F1)
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (sectors + 1) * 512 + offset
    payload = image[start : start + length]
    if not payload.startswith(b"\xfd7zXZ\0"):
        return kernel
    name = f"vm-vmlinux-{hashlib.sha256(image).hexdigest()[:16]}"
    path = cache_directory() / PurePosixPath(name)
    with built_once(path) as unfinished:
        if unfinished is not None:
            unfinished.write_bytes(lzma.LZMADecompressor().decompress(payload))
    return path
