# SPDX-License-Identifier: GPL-2.0-or-later
"""The image recipes in packaging/examples, each read by the program that people will give it to.

There are no mirrors of Fedora here, so no recipe is built whole. mkosi and systemd-repart are those
of a newer Debian, in a root of their own: that of Debian 12 knows no subvolumes.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from configparser import RawConfigParser
from pathlib import Path
from typing import Any

import pytest

from tests.need import withhold
from tests.sandbox.base import built_once, cache_directory, debian_tarball, digest, is_debian
from tests.sandbox.namespace import Namespace
from tests.sandbox.product import CHECKOUT

EXAMPLES = CHECKOUT / "packaging/examples"
KICKSTART = EXAMPLES / "kickstart/fs-rollback.ks"
BLUEPRINT = EXAMPLES / "osbuild/fs-rollback.toml"
MKOSI = EXAMPLES / "mkosi"
COMMAND_LINE = MKOSI / "mkosi.extra/etc/kernel/cmdline"

DNF4 = "python3-dnf-plugin-fs-snapshot"
DNF5 = "libdnf5-plugin-fs-snapshot"

# mkosi 27 and systemd 262 at the time of writing. base-files has the links /bin and /lib.
_SUITE = "forky"
_TOOLS = ("base-files", "btrfs-progs", "dosfstools", "mkosi", "mtools", "systemd-repart")

# What no recipe may put on a subvolume of its own, the rpm databases of EL 9 and of the others
# among it: on such a machine there are no snapshots.
_IN_THE_ROOT = ("/etc", "/usr", "/usr/lib", "/usr/lib/sysimage", "/var", "/var/lib", "/var/lib/rpm")

# The keys of github.com/osbuild/blueprint 1.30, pkg/blueprint: blueprint.go, customizations.go,
# disk_customizations.go, repository_customizations.go, of the tables that are used here. A table
# by a type of partition has the keys of that type only, as decodePlain and decodeBtrfs ask for.
_PARTITION = {"type", "minsize", "part_type", "part_label", "part_uuid"}
_KEYS: dict[str, set[str]] = {
    "": {
        "name", "description", "version", "packages", "modules", "enabled_modules", "groups",
        "containers", "customizations", "distro", "architecture",
    },
    "packages": {"name", "version"},
    "customizations": {
        "hostname", "kernel", "sshkey", "user", "group", "timezone", "locale", "firewall",
        "services", "filesystem", "disk", "installation_device", "partitioning_mode", "fdo",
        "openscap", "ignition", "directories", "files", "repositories", "fips", "installer", "rpm",
        "rhsm", "cacerts", "containers-storage", "firstboot", "dnf", "iso", "sshd",
    },
    "customizations.user": {
        "name", "description", "password", "key", "home", "shell", "groups", "uid", "gid",
        "expiredate", "force_password_reset",
    },
    "customizations.services": {"enabled", "disabled", "masked"},
    "customizations.repositories": {
        "id", "baseurls", "gpgkeys", "metalink", "mirrorlist", "name", "priority", "enabled",
        "gpgcheck", "repo_gpgcheck", "sslverify", "module_hotfixes", "filename", "install_from",
    },
    "customizations.disk": {"type", "minsize", "partitions", "start_offset", "sector_size"},
    "customizations.disk.partitions plain": {*_PARTITION, "mountpoint", "label", "fs_type"},
    "customizations.disk.partitions btrfs": {*_PARTITION, "subvolumes"},
    "customizations.disk.partitions.subvolumes": {"name", "mountpoint"},
}  # fmt: skip
_SIZE = re.compile(r"\d+(\.\d+)?\s*([kKMGT]i?B)?")  # osbuild/images, pkg/datasizes/parse.go


def test_kickstart_is_one_for_fedora() -> None:
    assert _problems("F40", KICKSTART) == ""


@pytest.mark.parametrize("version", ["RHEL9", "RHEL10"])
def test_kickstart_is_one_for_el_but_for_what_red_hat_took_out(
    version: str, tmp_path: Path
) -> None:
    lines = KICKSTART.read_text().splitlines(keepends=True)
    without = [line for line in lines if not line.startswith(("btrfs ", "part btrfs."))]
    assert len(lines) - len(without) == 4
    path = tmp_path / KICKSTART.name
    path.write_text("".join(without))
    assert _problems(version, path) == ""


def test_kickstart_has_the_layout_that_it_claims() -> None:
    commands = [shlex.split(line, comments=True) for line in KICKSTART.read_text().splitlines()]
    volumes = {words[1]: words[2:] for words in commands if words[:1] == ["btrfs"]}
    partitions = {words[1]: words[2:] for words in commands if words[:1] == ["part"]}
    assert volumes == {
        "none": ["--label=system", "btrfs.system"],
        "/": ["--subvol", "--name=root", "LABEL=system"],
        "/home": ["--subvol", "--name=home", "LABEL=system"],
    }
    assert set(partitions) == {"/boot", "btrfs.system"}
    assert "--fstype=ext4" in partitions["/boot"]
    assert not {*volumes, *partitions} & set(_IN_THE_ROOT)


def _problems(version: str, path: Path) -> str:
    """Return what ksvalidator has against a file, its words on old commands among it."""
    found = shutil.which(
        "ksvalidator", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"
    )
    if found is None:
        withhold("ksvalidator (pykickstart) is not installed")
    command = [found, "--version", version, os.fspath(path)]
    with tempfile.TemporaryDirectory() as scratch:  # it leaves copies of what it reads
        environment = {**os.environ, "TMPDIR": scratch}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode == 0 and not done.stderr:
        return ""
    return f"{' '.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}"


@pytest.fixture(name="blueprint")
def _blueprint() -> dict[str, Any]:
    for name in ("tomllib", "tomli"):  # the former comes with Python 3.11
        try:
            toml: Any = importlib.import_module(name)
        except ModuleNotFoundError:
            continue
        parsed: dict[str, Any] = toml.loads(BLUEPRINT.read_text())
        return parsed
    return withhold("this Python reads no TOML")


def test_blueprint_has_keys_that_image_builder_knows(blueprint: dict[str, Any]) -> None:
    assert _unknown_keys(blueprint, "") == []


def test_blueprint_has_values_that_image_builder_takes(blueprint: dict[str, Any]) -> None:
    """What Validate and validateCustomRepository in osbuild/blueprint ask for, in our words."""
    assert re.fullmatch(r"\d+\.\d+\.\d+", blueprint["version"])
    customizations = blueprint["customizations"]
    for repository in customizations["repositories"]:
        assert repository["id"]
        assert repository["baseurls"]
        assert repository["gpgkeys"] or not repository["gpgcheck"]
    points = []
    for partition in customizations["disk"]["partitions"]:
        assert _SIZE.fullmatch(partition["minsize"]), partition
        if partition["type"] == "plain":
            assert partition["fs_type"] in ("ext4", "vfat", "xfs")
            points.append(partition["mountpoint"])
        points += [volume["mountpoint"] for volume in partition.get("subvolumes", ())]
    assert len(points) == len(set(points))
    assert all(os.path.isabs(point) and point == os.path.normpath(point) for point in points)


def test_blueprint_has_the_layout_that_it_claims(blueprint: dict[str, Any]) -> None:
    plain, btrfs = blueprint["customizations"]["disk"]["partitions"]
    assert (plain["type"], plain["mountpoint"], plain["fs_type"]) == ("plain", "/boot", "ext4")
    assert btrfs["type"] == "btrfs"
    volumes = {volume["name"]: volume["mountpoint"] for volume in btrfs["subvolumes"]}
    assert volumes == {"root": "/", "home": "/home"}
    assert not set(volumes.values()) & set(_IN_THE_ROOT)


def _unknown_keys(table: dict[str, Any], path: str) -> list[str]:
    """Return the keys that a table of the blueprint, or one in it, cannot have; with its path."""
    kind = f"{path} {table['type']}" if path == "customizations.disk.partitions" else path
    unknown = [f"{kind}: {key}" for key in table if key not in _KEYS[kind]]
    for key, value in table.items():
        below = f"{path}.{key}".lstrip(".")
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, dict):
                if below in _KEYS or f"{below} plain" in _KEYS:
                    unknown += _unknown_keys(inner, below)
                else:
                    unknown.append(f"{below}: a table whose keys are not written down here")
    return unknown


@pytest.fixture(name="tools", scope="module")
def _tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with mkosi and systemd-repart; half a minute and the network once, then a second."""
    if shutil.which("mmdebstrap") is None or not is_debian():
        withhold("mkosi and systemd-repart are taken from Debian with mmdebstrap")
    tarball = cache_directory() / f"packaging-tools-{_SUITE}-{digest(_TOOLS)}.tar"
    with built_once(tarball) as unfinished:
        if unfinished is not None:
            debian_tarball(unfinished, _SUITE, _TOOLS, variant="extract")
    root = tmp_path_factory.mktemp("tools")
    subprocess.run(["tar", "--extract", f"--file={tarball}", f"--directory={root}"], check=True)
    return root


@pytest.fixture(name="work")
def _work(tools: Path) -> Iterator[Path]:
    """A directory that the tools have as /build, with the recipe in /build/recipe."""
    path = tools / "build"
    path.mkdir()
    shutil.copytree(MKOSI, path / "recipe")
    yield path
    shutil.rmtree(path)


def _run_in(root: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command of another root, with /proc and nothing else of the host."""
    script = 'mount -t proc proc "$1/proc"; exec chroot "$@"'
    done = subprocess.run(
        [
            "unshare", "--mount", "--propagation", "private",
            "sh", "-euc", script, "sh", os.fspath(root), *command,
        ],
        env={"PATH": "/usr/sbin:/usr/bin", "USER": "root", "HOME": "/root", "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done


def test_mkosi_knows_every_setting(tools: Path, work: Path) -> None:
    done = _run_in(tools, "mkosi", "--directory=/build/recipe", "summary", "--json")
    assert done.stderr == ""
    image = next(i for i in json.loads(done.stdout)["Images"] if i["Output"] == "fs-rollback")
    assert image["Format"] == "disk"
    assert image["Bootable"] == "enabled"
    assert image["Bootloader"] == "systemd-boot"
    # fs-rollback reads boot entries and kernels that are files.
    assert image["UnifiedKernelImages"] == "none"
    assert set(image["Packages"]) == set(_mkosi_packages())
    assert image["RepartDirectories"] == ["/build/recipe/mkosi.repart"]
    sources = {tree["Source"] for tree in (*image["ExtraTrees"], *image["SandboxTrees"])}
    assert {"/build/recipe/mkosi.extra", "/build/recipe/mkosi.sandbox"} <= sources
    assert [path for path in sources if not (tools / path.lstrip("/")).exists()] == []


def test_mkosi_makes_the_disk_that_the_recipe_claims(tools: Path, work: Path) -> None:
    """With a tree of a few files, and as mkosi calls systemd-repart."""
    tree = work / "tree"
    for name in ("boot/loader/entries.srel", "efi/x", "etc/os-release", "home/user/x", "var/x"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).touch()
    done = _run_in(
        tools, "systemd-repart", "--empty=create", "--size=auto", "--dry-run=no", "--offline=yes",
        "--root=/build/tree", "--definitions=/build/recipe/mkosi.repart",
        "--generate-fstab=/etc/fstab", "--json=short", "/build/image.raw",
    )  # fmt: skip
    # "Unknown key 'X' in section [Partition], ignoring."
    assert "ignoring" not in done.stderr, done.stderr
    esp, root = json.loads(done.stdout)
    assert (esp["type"], root["type"]) == ("esp", "root-x86-64")

    image = work / "image.raw"
    listing = _run_in(tools, "mdir", "-b", "-i", f"/build/image.raw@@{esp['offset']}", "::/loader")
    assert "::/loader/entries.srel" in listing.stdout
    with Namespace() as namespace:
        point = work / "mnt"
        point.mkdir()
        options = f"loop,ro,subvolid=5,offset={root['offset']}"
        namespace.run(["mount", "-t", "btrfs", "-o", options, os.fspath(image), os.fspath(point)])
        top = namespace.path(os.fspath(point))
        assert sorted(path.name for path in top.iterdir()) == ["home", "root"]
        # A subvolume is inode 256.
        assert [(top / name).stat().st_ino for name in ("home", "root")] == [256, 256]
        command = ["btrfs", "subvolume", "get-default", os.fspath(point)]
        assert namespace.run(command).stdout.rstrip().endswith(" path root")
        assert (top / "home/user/x").exists()
        assert (top / "root/etc/os-release").exists()
        # Mount points only: /boot is on the ESP.
        assert [list((top / "root" / name).iterdir()) for name in ("boot", "efi", "home")] == [
            [], [], [],
        ]  # fmt: skip
        mounts = [line.split() for line in (top / "root/etc/fstab").read_text().splitlines()]
        label = namespace.run(["btrfs", "filesystem", "label", os.fspath(point)]).stdout.strip()

    subvolumes = {
        point: [option for option in options.split(",") if "subvol" in option]
        for mark, point, _type, options, *_ in mounts
        if mark != "#"
    }
    assert subvolumes == {"/efi": [], "/": ["subvol=root"], "/home": ["subvol=home"]}
    words = COMMAND_LINE.read_text().split()
    assert words[:2] == [f"root=LABEL={label}", "rootflags=subvol=root"]


def test_recipes_name_packages_that_we_build(blueprint: dict[str, Any]) -> None:
    text = (CHECKOUT / "packaging/fs-rollback.spec").read_text()
    built = re.findall(r"^(?:Name:|%package -n)\s+(\S+)$", text, flags=re.MULTILINE)
    assert {DNF4, DNF5} <= set(built)
    section = KICKSTART.read_text().partition("%packages\n")[2].partition("%end")[0]
    named = {
        KICKSTART: [line for line in section.splitlines() if line and line[0] not in "#@"],
        BLUEPRINT: [package["name"] for package in blueprint["packages"]],
        MKOSI: _mkosi_packages(),
    }
    for recipe, packages in named.items():
        ours = [name for name in packages if re.search(r"fs-(rollback|snapshot)", name)]
        assert ours == [DNF5 if recipe is MKOSI else DNF4], recipe
        assert DNF5 in (recipe / "mkosi.conf" if recipe is MKOSI else recipe).read_text()


def test_recipes_name_units_that_exist(blueprint: dict[str, Any]) -> None:
    units = {path.name for path in (CHECKOUT / "packaging/systemd").iterdir()}
    presets = MKOSI.glob("mkosi.extra/etc/systemd/system-preset/*.preset")
    enabled = {
        KICKSTART: re.findall(r"^services --enabled=(\S+)$", KICKSTART.read_text(), re.MULTILINE),
        BLUEPRINT: blueprint["customizations"]["services"]["enabled"],
        MKOSI: re.findall(
            r"^enable (\S+)$", "".join(path.read_text() for path in presets), re.MULTILINE
        ),
    }
    for recipe, names in enabled.items():
        assert names == ["fs-rollback-prune.timer"], recipe
        assert set(names) <= units, recipe
    # In comments too, where they are mostly without a suffix.
    stems = {name.rpartition(".")[0] for name in units}
    for path in _texts():
        named = re.findall(r"\bfs-rollback-[a-z]+(?:\.[a-z]+)?\b(?!\()", path.read_text())
        assert [name for name in named if name not in {*units, *stems}] == [], path


def test_repositories_are_nobodys() -> None:
    """A recipe that is built as it stands asks no one's server for our packages."""
    for path in _texts():
        for url in re.findall(r"https?://([^/\s\"')]+)", path.read_text()):
            assert url.endswith(("example.org", ".fedoraproject.org")), path


def _mkosi_packages() -> list[str]:
    # As mkosi 25 and 26 read it: what is assigned again is added, and a blank is part of a name.
    assigned = re.findall(
        r"^Packages=(.*)$", (MKOSI / "mkosi.conf").read_text(), flags=re.MULTILINE
    )
    return [name for line in assigned for name in line.split(",")]


def test_repository_file_is_one_that_dnf_reads() -> None:
    (path,) = MKOSI.glob("mkosi.sandbox/etc/yum.repos.d/*.repo")
    parser = RawConfigParser()
    parser.read(path)
    for section in parser.sections():
        assert {"name", "baseurl", "gpgcheck", "gpgkey"} <= set(parser[section])


def _texts() -> Sequence[Path]:
    return [path for path in sorted(EXAMPLES.rglob("*")) if path.is_file()]
