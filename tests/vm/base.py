# SPDX-License-Identifier: GPL-2.0-or-later
"""What every machine is made of: a system with dnf 4, and two kernels that `uname -r` tells apart.

Building it takes a minute and the network once; then it lies in the cache.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from tests.sandbox.base import (
    DEBIAN_PACKAGES,
    built_once,
    cache_directory,
    debian_tarball,
    digest,
    is_debian,
    os_release,
)

from . import initramfs

OVMF = Path("/usr/share/OVMF")
PREPARE = Path(__file__).with_name("prepare.sh")
_KERNELS = PREPARE.with_name("kernels.sh")

# What a machine needs to be reached, see fleet.py; it is started only where a test wants it.
REACHED_BY = ("busybox-static", "openssh-server", "rsync")
# systemd-boot brings bootctl and the EFI program; busybox-static is for the initramfs too.
PACKAGES = (
    *DEBIAN_PACKAGES,
    "systemd", "systemd-sysv", "systemd-boot", "udev", "kmod", "util-linux", "e2fsprogs",
    "dosfstools", *REACHED_BY,
)  # fmt: skip

# Boot loaders that know more than those of the machines' own release.
_NEWER_SUITE = "forky"
_NEWER_LOADERS = ("grub-efi-amd64-bin", "grub-efi-amd64-unsigned", "systemd-boot-efi")

# What tests/setup.sh installs for this tier.
_TOOLS = (
    "qemu-system-x86_64", "mcopy", "mkfs.vfat", "mkfs.ext4", "mkfs.btrfs", "sfdisk", "mmdebstrap",
    "rpmbuild", "createrepo_c",
)  # fmt: skip


@dataclass(frozen=True)
class Kernel:
    """One kernel on the host: what /usr/lib/modules/VERSION holds, its vmlinuz among it."""

    version: str
    modules: Path
    initramfs: Path

    @property
    def vmlinuz(self) -> Path:
        """The kernel's file."""
        return self.modules / "vmlinuz"


@dataclass(frozen=True)
class Base:
    """The system as a tar file, and the kernels, the older one first."""

    tarball: Path
    kernels: tuple[Kernel, Kernel]
    systemd_boot: Path


def missing_tools() -> list[str]:
    """Return the programs, and the firmware, that this host lacks."""
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    return missing if OVMF.is_dir() else [*missing, os.fspath(OVMF)]


def base(cache: Path, *, say: Callable[[str], None]) -> Base:
    """Return the base system; build it if it is not in the cache.

    Raises RuntimeError on a host that is not Debian's kin, and CalledProcessError when one of the
    distribution's tools fails.
    """
    tarball = _tarball(cache, say)
    directory = cache / f"vm-kernels-{tarball.stem.rpartition('-')[2]}"
    with built_once(directory) as unfinished:
        if unfinished is not None:
            _unpack_kernels(tarball, unfinished)
    versions = sorted((path for path in directory.iterdir() if path.is_dir()), key=_by_version)
    kernels = tuple(Kernel(path.name, path / "modules", path / "initramfs") for path in versions)
    if len(kernels) != 2:
        raise RuntimeError(f"{directory} has {len(kernels)} kernels, not two: remove it")
    return Base(tarball, (kernels[0], kernels[1]), directory / "systemd-bootx64.efi")


def newer_loader(path: str) -> bytes:
    """Return a file of the newer boot loaders; they are fetched if they are not in the cache."""
    tarball = cache_directory() / f"vm-loaders-{_NEWER_SUITE}-{digest(_NEWER_LOADERS)}.tar"
    with built_once(tarball) as unfinished:
        if unfinished is not None:
            debian_tarball(unfinished, _NEWER_SUITE, _NEWER_LOADERS, variant="extract")
    with tarfile.open(tarball) as archive:
        found = archive.extractfile(f"./{path}")
        assert found is not None, path
        return found.read()


def _by_version(path: Path) -> list[int]:
    return [int(word) for word in path.name.replace("-", ".").split(".") if word.isdigit()]


def system(
    cache: Path,
    name: str,
    suite: str,
    recipe: tuple[Sequence[str], Sequence[Path]],
    say: Callable[[str], None],
) -> Path:
    """Return the tarball of a system, of packages and hooks; build it if it is not in the cache.

    Raises CalledProcessError when mmdebstrap fails, without the network for one.
    """
    packages, hooks = recipe
    key = digest(tuple(packages), *(hook.read_text() for hook in hooks), platform.machine())
    path = cache / f"vm-base-debian-{name}-{key}.tar"
    with built_once(path) as unfinished:
        if unfinished is not None:
            say(f"building a system for machines, once, about a minute: {path}")
            debian_tarball(unfinished, suite, packages, hooks=hooks)
    return path


def _tarball(cache: Path, say: Callable[[str], None]) -> Path:
    if not is_debian():
        raise RuntimeError("the machines are made with mmdebstrap: no recipe for this distribution")
    suite = os_release()["VERSION_CODENAME"]
    return system(cache, suite, suite, (PACKAGES, (_KERNELS, PREPARE)), say)


def _unpack_kernels(tarball: Path, directory: Path) -> None:
    """Write the kernels of a base system to a directory, each with an initramfs."""
    busybox = "./usr/bin/busybox"
    loader = "./usr/lib/systemd/boot/efi/systemd-bootx64.efi"
    with tempfile.TemporaryDirectory(dir=directory.parent) as scratch:
        tree = Path(scratch)
        command = ["tar", "--extract", f"--file={tarball}", f"--directory={tree}"]
        subprocess.run([*command, "./kernels", busybox, loader], check=True)
        for path in (tree / "kernels").iterdir():
            initramfs.write(path / "initramfs", tree / busybox, path / "modules")
        shutil.copyfile(tree / loader, tree / "kernels" / Path(loader).name)
        (tree / "kernels").rename(directory)
