# SPDX-License-Identifier: GPL-2.0-or-later
"""`convert check`: which devices it looks at, how it leaves them, and what it refuses."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.kernel import ext4_images
from tests.kernel.attached import (
    attached,
    nothing_stays,  # noqa: F401 - a fixture: being here is enough
)
from tests.kernel.commands import LOAD_ALL, Done
from tests.kernel.ext4_images import (
    NEW,
    UUID,
    Tools,
    check,
    complaints,
    cut_off,
    debugfs,
    digest,
    make,
    on,
    start,
    write,
)
from tests.kernel.machine import run
from tests.need import need

OTHER = "0a0a6f0c-5b5f-4f1c-9e0c-f6ff8a0b1c2d"
BOTH = pytest.mark.parametrize("orphan_file", [False, True], ids=["orphan-list", "orphan-file"])


@pytest.fixture
def tools(tmp_path: Path) -> dict[str, str]:
    """Give the variables that make good programs the only ones."""
    return Tools().environment(tmp_path / "programs")


def _refused(done: Done, *parts: str, code: int = 3) -> None:
    assert (done.code, done.out) == (code, ""), done
    lines = done.err.splitlines()
    assert len(lines) == 2, "one sentence and a hint"
    assert lines[1].startswith("  ")
    for part in parts:
        assert part in done.err


def _no_system(done: Done, *parts: str) -> None:
    """Check that all is told of the filesystem, and why its system cannot be looked at."""
    assert (done.code, done.err) == (3, ""), done
    assert "ok       filesystem         /dev/" in done.out
    *_, before, advice, empty, last = done.out.splitlines()
    said = r"This root cannot be converted as it is: (\w[\w ]*, )?system \(see above\)\."
    assert (empty, bool(re.fullmatch(said, last))) == ("", True), last
    assert before.startswith("refused  system ")
    for part in parts:
        assert part in before + advice


def _is_no_ext4(done: Done, *parts: str) -> None:
    """Check the answer, the same as for a root that is mounted."""
    assert (done.code, done.err, done.json["verdict"]) == (3, "", "refused"), done
    (point,) = done.json["points"]
    assert (point["verdict"], point["name"]) == ("refused", "filesystem")
    for part in parts:
        assert part in point["text"] + point["advice"]


# What was cut off.


@BOTH
@pytest.mark.parametrize("frozen", [False, True], ids=["power-cut", "snapshot-of-lvm"])
def test_what_was_cut_off_is_not_repaired(
    tmp_path: Path, ext4_tree: Path, frozen: bool, orphan_file: bool
) -> None:
    # A mount with "ro,noload" alone ends the deletions on the disk, in front of the journal.
    image, crashed = tmp_path / "disk.img", tmp_path / "crashed.img"
    make(image, ext4_tree, "-O", ("" if orphan_file else "^") + "orphan_file")
    with on(image) as root:
        cut_off(crashed, root, frozen=frozen)
    said = run("dumpe2fs", "-h", str(crashed))
    assert ("needs_recovery" in said) != frozen
    if frozen:
        assert ("orphan_present" if orphan_file else "First orphan inode:") in said
    done = check(crashed, Tools(), "--have-backup", "--json")
    assert complaints(done) == ([] if frozen else [("refused", "ext4 state")])
    assert (done.code, done.err) == (0 if frozen else 3, "")


@BOTH
@pytest.mark.parametrize("options", ["defaults", "data=ordered,commit=30,errors=panic"])
def test_a_boot_of_its_own_that_was_cut_off(
    tmp_path: Path, ext4_image: Path, ext4_tree: Path, orphan_file: bool, options: str
) -> None:
    ours = str(uuid.uuid4())  # other tests run beside this one
    boot, crashed = tmp_path / "boot.img", tmp_path / "boot-crashed.img"
    word = ("" if orphan_file else "^") + "orphan_file"
    make(boot, ext4_tree / "boot", "-O", word, "-U", ours, size_bytes=64 << 20)
    with on(boot) as place:
        (place / "srv").mkdir()
        run("rm", "-r", str(place / "efi"))  # GRUB of a BIOS: nothing but /boot knows of it
        for entry in (place / "loader/entries").iterdir():
            entry.write_text(entry.read_text().replace(" /boot/", " /"))
        cut_off(crashed, place, frozen=False)
    with on(ext4_image) as root:
        with (root / "etc/fstab").open("a") as file:
            file.write(f"UUID={ours} /boot ext4 {options} 1 2\n")
        run("rm", "-r", str(root / "boot"))
        (root / "boot").mkdir()
    before = digest(crashed)
    assert "needs_recovery" in run("dumpe2fs", "-h", str(crashed))
    with attached(crashed) as device:
        done = check(ext4_image, Tools(), "--have-backup", "--json")
        run("blockdev", "--flushbufs", device)
    assert digest(crashed) == before, "the journal of /boot was replayed"
    assert (done.code, done.err, complaints(done)) == (0, "", [])
    texts = [point["text"] for point in done.json["points"]]
    assert "GRUB reads /boot, which is not converted" in texts
    assert "/boot/initramfs-6.1.0-1.img has btrfs" in texts


def test_a_boot_of_its_own_that_is_not_there(ext4_image: Path) -> None:
    with on(ext4_image) as root, (root / "etc/fstab").open("a") as file:
        file.write(f"UUID={OTHER} /boot ext4 defaults 1 2\n")
    _no_system(check(ext4_image, Tools()), f"/etc/fstab line 3 mounts UUID={OTHER} on /boot")


# Devices of other kinds.


def test_a_journal_elsewhere(tmp_path: Path, ext4_tree: Path) -> None:
    image, journal = tmp_path / "disk.img", tmp_path / "journal.img"
    with journal.open("wb") as file:
        file.truncate(16 << 20)
    run("mke2fs", "-q", "-F", "-b", "4096", "-O", "journal_dev", str(journal))
    with attached(journal) as device:
        make(image, ext4_tree, "-b", "4096", "-J", f"device={device}")
        done = check(image, Tools(), "--have-backup", "--json")
    assert complaints(done) == [("refused", "ext4 features")]
    assert "tune2fs -O ^has_journal /dev/loop" in done.out


def test_a_partition_names_its_disk(
    tmp_path: Path, ext4_image: Path, tools: dict[str, str]
) -> None:
    with on(ext4_image) as root:
        run("rm", "-r", str(root / "boot/efi"))
    image = tmp_path / "partitioned.img"
    with image.open("wb") as file:
        file.truncate(ext4_images.LEAST_BYTES + (2 << 20))
    sectors = str(ext4_images.LEAST_BYTES // 512)
    subprocess.run(("sfdisk", "-q", str(image)), input=f"2048,{sectors},L\n", text=True, check=True)
    ext4_images.copy_behind(ext4_image, image, 1 << 20)
    before = digest(image)
    partition = tmp_path / "partition"
    with attached(image) as device:
        _is_no_ext4(start(tools, "check", "--device", device, "--json"), device, "with partitions")
        # By hand: the kernel may be one without partition tables, and udev is not here.
        run("addpart", device, "1", "2048", sectors)
        name = Path(device).name
        number = Path(f"/sys/block/{name}/{name}p1/dev").read_text()
        major, minor = (int(part) for part in number.split(":"))
        os.mknod(partition, 0o600 | stat.S_IFBLK, os.makedev(major, minor))
        try:
            done = start(tools, "check", "--device", str(partition), "--json", "--have-backup")
        finally:
            run("delpart", device, "1")
    assert complaints(done) == [("warning", "boot loader")]
    assert f'btrfs ext2\\" {device}"' in done.out, "grub2-install wants the disk"
    assert digest(image) == before


@pytest.mark.parametrize(
    ("command", "parts"),
    [
        (["mke2fs", "-q", "-F", "-t", "ext2"], ["is ext2, not ext4", "tune2fs(8)"]),
        (["mke2fs", "-q", "-F", "-t", "ext3"], ["is ext3, not ext4", "tune2fs(8)"]),
        (["mkfs.xfs", "-q"], ["is xfs, not ext4", "to a new btrfs filesystem instead"]),
        (["mkfs.btrfs", "-q"], ["is btrfs, not ext4", "nothing to convert"]),
        (["mkswap"], ["is swap, not ext4", "lsblk"]),
        (["true"], ["contains nothing that blkid(8) recognizes", "lsblk"]),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else None,
)
def test_what_is_no_ext4(
    tmp_path: Path, tools: dict[str, str], command: list[str], parts: list[str]
) -> None:
    need(command[0])
    image = tmp_path / "disk.img"
    with image.open("wb") as file:
        file.truncate(512 << 20)
    run(*command, str(image))
    before = digest(image)
    with attached(image) as device:
        _is_no_ext4(start(tools, "check", "--device", device, "--json"), device, *parts)
    assert digest(image) == before


def test_a_kernel_that_cannot_mount_it(tmp_path: Path, ext4_tree: Path) -> None:
    image = tmp_path / "disk.img"
    make(image, ext4_tree, "-O", "^metadata_csum")
    with image.open("r+b") as file:
        file.seek(1024 + 0x63)
        file.write(b"\x40")  # incompat 0x40000000
    done = check(image, Tools())
    _no_system(done, "cannot be mounted read-only", "dumpe2fs -h")
    assert "incompat 0x40000000 is set" in done.out


def test_no_system_on_it(ext4_image: Path) -> None:
    with on(ext4_image) as root:
        run("rm", "-r", str(root / "usr"))
    _no_system(check(ext4_image, Tools()), "contains no system: there is no /usr in it")


def test_what_is_no_device(tmp_path: Path, tools: dict[str, str], ext4_image: Path) -> None:
    gone = start(tools, "check", "--device", "/dev/nothing")
    _refused(gone, "there is no device /dev/nothing", "lsblk", code=2)
    _refused(start(tools, "check", "--device", str(ext4_image)), "losetup", code=2)
    _refused(start(tools, "check", "--device", f"UUID={OTHER}"), OTHER, code=2)
    both = start(tools, "check", "--device", "/dev/nothing", "--root", str(tmp_path))
    assert both.code == 2
    assert "not allowed with" in both.err


def test_a_label_is_a_device(ext4_image: Path, tools: dict[str, str]) -> None:
    label = uuid.uuid4().hex[:16]
    run("tune2fs", "-L", label, str(ext4_image))
    with attached(ext4_image) as device:
        done = start(tools, "check", "--device", device, "--json", "--have-backup")
        assert done.code == 0, done
        assert done.json["points"][0]["text"] == f"{device} is ext4, UUID {UUID}"
        named = start(tools, "check", "--device", f"LABEL={label}", "--json", "--have-backup")
        assert named.json == done.json


def test_without_roots_rights(ext4_image: Path, tools: dict[str, str]) -> None:
    program = (
        f"import os, sys; {LOAD_ALL} from fs_rollback.cli import main; os.setuid(65534);"
        " sys.exit(main.main())"
    )
    with attached(ext4_image) as device:
        for words in (("--device", device), ("--root", "/")):
            done = subprocess.run(
                (sys.executable, "-c", program, "convert", "check", *words),
                capture_output=True,
                text=True,
                env=tools,
                cwd="/",
                check=False,
            )
            again = f"sudo fs-rollback convert check {' '.join(words)}"
            assert (done.returncode, done.stdout) == (1, "")
            assert done.stderr == f"fs-rollback: must be run as root: {again}\n"


# What is mounted.


@contextmanager
def _mounted(device: str, place: Path, *options: str) -> Iterator[Path]:
    place.mkdir()
    run("mount", *options, device, str(place))
    try:
        yield place
    finally:
        run("umount", "--recursive", str(place))


@pytest.mark.parametrize("options", [("-o", "rw"), ("-o", "ro")], ids=["rw", "ro"])
def test_a_mounted_device(
    tmp_path: Path, ext4_image: Path, tools: dict[str, str], options: tuple[str, str]
) -> None:
    with attached(ext4_image) as device, _mounted(device, tmp_path / "root", *options) as root:
        done = start(tools, "check", "--device", device)
        _no_system(done, f"{device} is mounted on {root}", f"Give --root {root}")
        other = start(tools, "check", "--root", str(root), "--json", "--have-backup")
    assert (other.code, other.err, complaints(other)) == (0, "", [])
    assert other.json["points"][0]["text"] == f"{device} is ext4, UUID {UUID}"


def test_a_mounted_root_is_read_as_it_is_now(
    tmp_path: Path, ext4_tree: Path, tools: dict[str, str]
) -> None:
    image = tmp_path / "disk.img"
    make(image, ext4_tree)
    debugfs(image, "feature inline_data")
    with attached(image) as device, _mounted(device, tmp_path / "root") as root:
        before = _names(root)
        for number in range(3):
            write(root, f"srv/small{number}", "x")
        run("sync", "--file-system", str(root))
        done = start(tools, "check", "--root", str(root), "--json", "--have-backup")
        assert complaints(done) == [("refused", "ext4 features")], "not that it is mounted"
        assert "inline_data is used by 3 inodes" in done.out
        for number in range(3):
            (root / f"srv/small{number}").unlink()
        assert _names(root) == before
        again = start(tools, "check", "--root", str(root), "--json", "--have-backup")
        assert (again.code, complaints(again)) == (0, [])


def _names(root: Path) -> list[str]:
    return sorted(os.path.join(path, name) for path, _, names in os.walk(root) for name in names)


def test_a_swap_file_on_another_filesystem(
    tmp_path: Path, ext4_image: Path, tools: dict[str, str]
) -> None:
    with attached(ext4_image) as device, _mounted(device, tmp_path / "root") as root:
        (root / "data").mkdir()
        with (root / "etc/fstab").open("a") as file:
            file.write("/data/swap none swap defaults 0 0\n")
        run("mount", "-t", "tmpfs", "none", str(root / "data"))
        write(root, "data/swap", "")
        done = start(tools, "check", "--root", str(root), "--json", "--have-backup")
        assert (done.code, complaints(done)) == (0, [])
        run("umount", str(root / "data"))
        write(root, "data/swap", "")
        done = start(tools, "check", "--root", str(root), "--json", "--have-backup")
        assert (done.code, complaints(done)) == (3, [("refused", "swap files")])


@pytest.mark.parametrize("options", ["defaults", "noauto", "nofail"])
def test_a_root_whose_boot_is_not_mounted(
    tmp_path: Path, ext4_image: Path, tools: dict[str, str], options: str
) -> None:
    with attached(ext4_image) as device:
        with _mounted(device, tmp_path / "root") as root:
            with (root / "etc/fstab").open("a") as file:
                file.write(f"UUID={OTHER} /boot ext4 {options} 1 2\n")
            done = start(tools, "check", "--root", str(root))
            _no_system(
                done, f"nothing is mounted on {root}/boot", f"mount UUID={OTHER} {root}/boot"
            )
        done = start(tools, "check", "--device", device)
        _no_system(done, f"mounts UUID={OTHER} on /boot, but that failed here", "Attach or")


def test_a_spare_esp_need_not_be_mounted(
    tmp_path: Path, ext4_image: Path, tools: dict[str, str]
) -> None:
    with attached(ext4_image) as device, _mounted(device, tmp_path / "root") as root:
        with (root / "etc/fstab").open("a") as file:
            file.write(f"UUID={OTHER} /efi vfat nofail 0 2\n")
        done = start(tools, "check", "--root", str(root), "--json", "--have-backup")
        assert (done.code, complaints(done)) == (0, [])


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["mke2fs", "-q", "-F", "-t", "ext3"], "is ext3"),
        (["mkfs.xfs", "-q"], "is xfs"),
        (["mkfs.btrfs", "-q"], "is already btrfs"),
    ],
    ids=["ext3", "xfs", "btrfs"],
)
def test_a_mounted_root_of_another_kind(
    tmp_path: Path, tools: dict[str, str], command: list[str], said: str
) -> None:
    need(command[0])
    image = tmp_path / "disk.img"
    with image.open("wb") as file:
        file.truncate(512 << 20)
    run(*command, str(image))
    with attached(image) as device, _mounted(device, tmp_path / "root") as root:
        ext4_images.fill(root)
        done = start(tools, "check", "--root", str(root), "--json")
    _is_no_ext4(done, f"{device} {said}")


def test_a_directory_that_is_no_root(
    tmp_path: Path, tools: dict[str, str], ext4_image: Path
) -> None:
    with attached(ext4_image) as device, _mounted(device, tmp_path / "root") as root:
        _refused(start(tools, "check", "--root", str(root / "etc")), "is not where a filesystem")
        run("mount", "-t", "tmpfs", "none", str(root / "srv"))
        _refused(start(tools, "check", "--root", str(root / "srv")), "contains no system")
    _refused(start(tools, "check", "--root", str(tmp_path / NEW)), "is not a directory")


def test_a_device_that_cannot_be_written_to(ext4_image: Path, tools: dict[str, str]) -> None:
    with attached(ext4_image, "--read-only") as device:
        done = start(tools, "check", "--device", device, "--json", "--have-backup")
    assert (done.code, complaints(done)) == (3, [("refused", "device")])
    assert f"{device} is read-only" in done.out
