# SPDX-License-Identifier: GPL-2.0-or-later
"""The base system of every sandbox: a small root made of the host's own distribution packages.

It takes a minute and the network once, then lies in the cache, as a tar file and as images.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Callable

from .engine import Engine
from .layout import REPOSITORY_FILE, Layout, root_files
from .namespace import Namespace
from .rpms import Package, build

# Change it when the recipe below changes: what lies in a cache is then built anew.
_RECIPE = 1

# Disk space is taken only by what is written.
_IMAGE_BYTES = 1536 * 1024 * 1024

_FAR_FUTURE = 2114380800  # 2037-01-01; libdnf keeps such times in 32 bits

# In the cached image; each copy gets one of its own.
_BASE_UUID = "5a2db0c5-0000-4000-8000-000000000000"

DEBIAN_PACKAGES = (
    "dnf", "python3-dnf", "rpm", "python3-btrfsutil", "python3-tabulate", "btrfs-progs",
)  # fmt: skip
_FEDORA_PACKAGES = (
    "python3-dnf", "rpm", "python3-btrfsutil", "python3-tabulate", "btrfs-progs",
    "coreutils", "diffutils", "findutils", "util-linux",
)  # fmt: skip

# The first release of Debian with dnf 5; dnf 4 is there too, for what both do on one machine.
DNF5_SUITE = "sid"
DNF5_PACKAGES = (*DEBIAN_PACKAGES, "dnf5")

# What rpm and dnf have to find on a system whose own packages they do not know: a release, the
# interpreter of scriptlets, and what packaging/fs-rollback.spec requires, as Debian 12 has it.
_PYTHON = ".".join(platform.python_version_tuple()[:2])
RELEASE = Package(
    "sandbox-release",
    "41",
    provides=(
        "system-release(releasever) = 41", "/bin/bash", "/bin/sh", "/usr/bin/python3",
        f"python(abi) = {_PYTHON}",
        f"python{_PYTHON}dist(tabulate) = 0.8.9", "python3-btrfsutil = 6.2", "btrfs-progs = 6.2",
        "python3-dnf = 4.14.0", "coreutils = 9.1", "rpm = 4.18.0", "util-linux-core = 2.38.1",
        "libdnf5-plugin-actions = 5.4.6", "e2fsprogs = 1.47.0",
    ),
)  # fmt: skip

# Arguments: IMAGE MOUNT_POINT SUBVOLUME TARBALL FILES DNF RPM. An empty SUBVOLUME is the top level,
# an empty RPM none.
_POPULATE = """
set -eu
mount -t btrfs -o loop,compress=zstd:1 "$1" "$2"
root=$2
if [ -n "$3" ]; then
    btrfs --quiet subvolume create "$2/$3"
    btrfs --quiet subvolume create "$2/home"
    root=$2/$3
fi
tar --extract --file="$4" --directory="$root" --numeric-owner --xattrs --xattrs-include='*'
cp -a "$5/." "$root/"
ln -sf "$6" "$root/usr/bin/dnf"
chroot "$root" rpm --initdb
if [ -n "$7" ]; then
    cp "$7" "$root/release.rpm"
    chroot "$root" rpm --install /release.rpm
    rm "$root/release.rpm"
fi
"""


def _silent(_message: str) -> None:
    """Say nothing."""


def cache_directory() -> Path:
    """Return where what is expensive to build is kept, the same place as in tests/setup.sh."""
    explicit = os.environ.get("FS_ROLLBACK_CACHE")
    if explicit:
        return Path(explicit)
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache, "fs-rollback")


def base_tarball(
    cache: Path, engine: Engine = Engine.DNF4, *, say: Callable[[str], None] = _silent
) -> Path:
    """Return a tar file of a small root of the host's distribution; build it if it is not there.

    That with dnf 5 is of another release of it. Raises RuntimeError on a distribution this does not
    know, and CalledProcessError when the distribution's own tool fails.
    """
    release = os_release()
    debian = is_debian()
    version = release["VERSION_CODENAME"] if debian else release["VERSION_ID"]
    packages: tuple[str, ...] = DEBIAN_PACKAGES if debian else _FEDORA_PACKAGES
    if engine is Engine.DNF5:
        if not debian:
            raise RuntimeError("no recipe for a sandbox with dnf 5 on this distribution")
        version, packages = DNF5_SUITE, DNF5_PACKAGES
    key = digest(_RECIPE, packages, platform.machine())
    path = cache / f"base-{release['ID']}-{version}-{key}.tar"
    with built_once(path) as unfinished:
        if unfinished is not None:
            say(f"building a small {release['ID']} {version} once, about a minute: {path}")
            if debian:
                debian_tarball(unfinished, version, packages)
            else:
                _fedora_tarball(unfinished, version, packages)
    return path


def base_image(
    cache: Path,
    layout: Layout,
    engine: Engine = Engine.DNF4,
    *,
    say: Callable[[str], None] = _silent,
) -> Path:
    """Return a sparse btrfs image with the base system in it; build it if it is not there."""
    tarball = base_tarball(cache, engine, say=say)
    files = root_files(layout, _BASE_UUID, debian=is_debian())
    key = digest(tarball.name, files, _POPULATE, RELEASE, _IMAGE_BYTES, _FAR_FUTURE, engine)
    path = cache / f"image-{layout.value}-{engine.value}-{key}.img"
    with built_once(path) as unfinished:
        if unfinished is not None:
            say(f"building an image with the root in {layout.description} once: {path}")
            _build_image(unfinished, layout, engine, tarball, files)
    return path


def copy_image(image: Path, layout: Layout, copy: Path) -> str:
    """Copy a base image to `copy` as a filesystem of its own; return its UUID.

    Kernels before 6.7 mount only one of two filesystems with the same UUID, and a UUID that
    leads to two disks is a machine nobody has.
    """
    command = ["cp", "--sparse=always", "--reflink=auto", os.fspath(image), os.fspath(copy)]
    subprocess.run(command, check=True)
    # -m changes the superblock only; -u would rewrite every block.
    subprocess.run(["btrfstune", "-m", os.fspath(copy)], check=True, stdout=subprocess.DEVNULL)
    probe = ["blkid", "-p", "-s", "UUID", "-o", "value", os.fspath(copy)]
    uuid = subprocess.run(probe, check=True, capture_output=True, text=True).stdout.strip()
    old, new = (root_files(layout, value, debian=False) for value in (_BASE_UUID, uuid))
    with tempfile.TemporaryDirectory(dir=copy.parent) as point, Namespace() as namespace:
        namespace.run(["mount", "-t", "btrfs", "-o", "loop,subvolid=5", os.fspath(copy), point])
        root = namespace.path(point) / layout.subvolume
        for name, text in new.items():
            if text != old[name]:
                Path(root, name).write_text(text)
    return uuid


@contextmanager
def built_once(path: Path) -> Iterator[Path | None]:
    """Give the name to build `path` under, or None if it is there; rename it if all went well.

    Whoever comes while another builds waits for that one, and finds what it built.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        yield None
        return
    with Path(f"{path}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path.exists():
            yield None
            return
        unfinished = path.with_name(f"unfinished-{path.name}")
        try:
            yield unfinished
            unfinished.rename(path)
        finally:
            unfinished.unlink(missing_ok=True)


def _build_image(
    image: Path, layout: Layout, engine: Engine, tarball: Path, files: dict[str, str]
) -> None:
    with image.open("wb") as file:
        file.truncate(_IMAGE_BYTES)
    mkfs = ["mkfs.btrfs", "--quiet", "--uuid", _BASE_UUID, os.fspath(image)]
    # Before 6.3 it prints a note on its defaults even so.
    subprocess.run(mkfs, check=True, stdout=subprocess.DEVNULL)
    with tempfile.TemporaryDirectory(dir=image.parent) as directory, Namespace() as namespace:
        tree = Path(directory, "files")
        for name, text in files.items():
            path = tree / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        # The directories of the tree are copied with their modes.
        for path in (tree, *tree.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        # dnf takes "expired" to mean older by a whole second even with metadata_expire=0, and would
        # miss what was published right after its last look. It asks anew if the file that names
        # the repository is newer than what it knows: let it always be.
        os.utime(tree / REPOSITORY_FILE, (_FAR_FUTURE, _FAR_FUTURE))
        point = Path(directory, "mnt")
        point.mkdir()
        rpm = build([RELEASE], Path(directory))[0] if is_debian() else ""
        arguments = (image, point, layout.subvolume, tarball, tree, engine.program, rpm)
        script = ["sh", "-c", _POPULATE, "populate", *(str(argument) for argument in arguments)]
        namespace.run(script, timeout_s=600)


def debian_tarball(
    path: Path,
    suite: str,
    packages: Sequence[str],
    *,
    hooks: Sequence[Path] = (),
    variant: str = "minbase",
) -> None:
    """Write a small root of a Debian suite to a tar file; mmdebstrap needs root and the network.

    `hooks` are shell scripts that are run in turn before the tree is packed, with its path.
    `variant` is mmdebstrap's: with "extract" the packages are unpacked, and nothing is installed.
    """
    customize = [f'--customize-hook=sh {shlex.quote(os.fspath(hook))} "$1"' for hook in hooks]
    unread = ("doc", "info", "locale", "man")
    subprocess.run(
        [
            # Killed with us: it would go on writing to a file that the next run writes too.
            "setpriv", "--pdeathsig", "KILL",
            "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
            "mmdebstrap", "--quiet", "--mode=root", f"--variant={variant}", "--format=tar",
            f"--include={','.join(packages)}",
            # A mirror may be behind with what changes each day.
            '--aptopt=Acquire::Check-Valid-Until "false"',
            *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in unread),
            *customize,
            suite, os.fspath(path),
        ],
        check=True,
    )  # fmt: skip


def _fedora_tarball(path: Path, version: str, packages: tuple[str, ...]) -> None:
    # Written from the documentation and the package lists; never run on Fedora or EL so far.
    dnf = next(name for name in ("dnf-3", "dnf") if shutil.which(name))
    with tempfile.TemporaryDirectory(dir=path.parent) as root:
        subprocess.run(
            [
                dnf, "--assumeyes", "--quiet", f"--installroot={root}", f"--releasever={version}",
                "--setopt=install_weak_deps=False", "--setopt=tsflags=nodocs",
                "install", *packages,
            ],
            check=True,
        )  # fmt: skip
        archive = ["tar", "--create", "--numeric-owner", "--xattrs", "--xattrs-include=*"]
        subprocess.run([*archive, f"--file={path}", f"--directory={root}", "."], check=True)


def is_debian() -> bool:
    """Tell Debian and its kin from Fedora and its kin; raises RuntimeError if it is neither."""
    release = os_release()
    family = {release["ID"], *release.get("ID_LIKE", "").split()}
    if not family & {"debian", "fedora", "rhel"}:
        raise RuntimeError(f"no recipe for a sandbox on {release['ID']}")
    return "debian" in family


def os_release() -> dict[str, str]:
    """Return what the host says of its distribution, os-release(5)."""
    values: dict[str, str] = {}
    for line in Path("/etc/os-release").read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals:
            values[name] = value.strip("\"'")
    return values


def digest(*parts: object) -> str:
    """Return what names a thing in the cache by all that it is made of."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:10]
