# SPDX-License-Identifier: GPL-2.0-or-later
"""`mount` and `umount`: what a look into a snapshot can do, where it is, and whose mounts stay."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.commands import done, fs_rollback
from tests.kernel.machine import Machine, run
from tests.unit.manual import differences

PLACE = Path("/run/fs-rollback")


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    yield
    for point in _mounted():
        run("umount", point)


def _mounted() -> list[str]:
    """Return what mountinfo has below the default place and in temporary directories of tests."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line.split()[4] for line in lines if line.split()[4].startswith(str(PLACE))]


def _options(point: Path) -> set[str]:
    return set(run("findmnt", "-n", "-o", "VFS-OPTIONS", str(point)).strip().split(","))


def _nobody(*command: str) -> int:
    return subprocess.run(
        ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *command),
        check=False, capture_output=True,
    ).returncode  # fmt: skip


def test_a_look_at_the_default_place(named: Machine) -> None:
    name = named.take()
    (named.root / "etc/app.conf").write_text("setting 2\n")
    answer = done(named.root, "mount", name, "--json").json
    assert differences("mount", answer) == []
    point = PLACE / name
    assert answer["directory"] == str(point)
    assert (point / "etc/app.conf").read_text() == "setting 1\n"
    assert {"ro", "nosuid", "nodev", "noexec"} <= _options(point)
    assert _options(named.root) & {"rw"}, "the machine's own mount stays as it was"
    assert oct(PLACE.stat().st_mode & 0o777) == "0o700"
    assert _nobody("cat", f"{point}/etc/app.conf") != 0
    again = done(named.root, "mount", name)
    assert again.out == f"{point}\n"
    assert "was already mounted" in again.err
    ended = done(named.root, "umount", "--json")
    assert differences("umount", ended.json) == []
    assert ended.json["unmounted"] == [{"snapshot": name, "directory": str(point)}]
    assert not point.exists()
    assert "no snapshot is mounted" in done(named.root, "umount").err
    assert fs_rollback(named.root, "umount", name).code == 2


def test_it_is_said_and_kept_as_long_as_it_is_mounted(named: Machine) -> None:
    name = named.take()
    done(named.root, "mount", name)
    links = fs_rollback(named.root, "check", "--json").json
    assert differences("check", links) == []
    (found,) = (link for link in links["links"] if link["code"] == "mount.snapshot")
    assert (found["subject"], str(PLACE / name) in found["text"]) == (name, True)
    assert found["advice"].endswith(f"fs-rollback umount --root {named.root} {name}")
    refused = fs_rollback(named.root, "delete", name)
    assert (refused.code, "it is mounted" in refused.err) == (3, True)
    done(named.root, "umount", str(PLACE / name))
    links = fs_rollback(named.root, "check", "--json").json["links"]
    assert "mount.snapshot" not in {link["code"] for link in links}
    done(named.root, "delete", name)


def test_a_directory_of_ones_own(named: Machine, tmp_path: Path) -> None:
    name = named.take()
    tmp_path.chmod(0o700)
    place = tmp_path / "look"
    for wrong in (place, named.root / "etc/fstab"):
        fs_rollback(named.root, "mount", name, str(wrong)).expect_refusal(
            "is not a usable directory"
        )
    place.mkdir()
    (place / "file").touch()
    fs_rollback(named.root, "mount", name, str(place)).expect_refusal("it is not empty")
    (place / "file").unlink()
    done(named.root, "mount", name, str(place))
    other = tmp_path / "other"
    other.mkdir()
    fs_rollback(named.root, "mount", name, str(other)).expect_refusal("already")
    done(named.root, "umount", str(place))
    assert place.is_dir(), "it was made by somebody else"


def test_a_place_that_others_can_reach_is_refused(named: Machine) -> None:
    name = named.take()
    open_place = Path("/run/fs-rollback-test-open")
    open_place.mkdir(mode=0o755)
    try:
        refused = fs_rollback(named.root, "mount", name, str(open_place))
        refused.expect_refusal("users other than root can enter", "/root")
    finally:
        open_place.rmdir()


def test_nothing_but_its_own_is_unmounted(named: Machine) -> None:
    """Not even what looks the same: same subvolume, same options, at a place of its own."""
    name = named.take()
    theirs = PLACE / name
    PLACE.mkdir(mode=0o700, exist_ok=True)
    theirs.mkdir()
    option = f"loop,ro,nosuid,nodev,noexec,subvol=fs-snapshots/{name}"
    run("mount", "-o", option, str(named.image), str(theirs))
    for words in (("umount", name), ("umount", str(theirs)), ("umount", "/"), ("umount",)):
        fs_rollback(named.root, *words)
        assert _mounted() == [str(theirs)], words
    fs_rollback(named.root, "mount", name).expect_refusal("is mounted there")
    run("umount", str(theirs))
    theirs.rmdir()


def test_what_is_in_use_stays_and_so_does_what_is_mounted_over_it(named: Machine) -> None:
    name = named.take()
    done(named.root, "mount", name)
    point = PLACE / name
    with (point / "etc/app.conf").open():
        fs_rollback(named.root, "umount", name).expect_refusal("is in use")
    run("mount", "-t", "tmpfs", "over", str(point))
    fs_rollback(named.root, "umount", name).expect_refusal(f"{point} (over)")
    run("umount", str(point))
    done(named.root, "umount", name)


def test_two_looks_and_a_replaced_root(named: Machine) -> None:
    first, second = named.take(), named.take()
    done(named.root, "rollback", first, "--yes")
    named.reboot()
    done(named.root, "settle")
    replaced = next(s.name for s in named.snapshots() if s.is_replaced)
    for name in (first, second, replaced):
        done(named.root, "mount", name)
    assert "ro" in _options(PLACE / replaced)
    done(named.root, "umount", second)
    assert sorted(_mounted()) == sorted(str(PLACE / name) for name in (first, replaced))
    done(named.root, "umount")
    assert _mounted() == []
