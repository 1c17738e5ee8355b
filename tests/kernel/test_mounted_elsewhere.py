# SPDX-License-Identifier: GPL-2.0-or-later
"""`--device` while the machine's filesystems are mounted already, as somebody wanted them."""

from __future__ import annotations

from pathlib import Path

from tests.kernel.attached import (
    add_line,
    done,
    ext4,
    nothing_stays,  # noqa: F401 - a fixture: being here is enough
    off,
    refused,
    uuid_of,
)
from tests.kernel.machine import Machine, run


def test_a_boot_that_is_mounted_otherwise_than_the_root(named: Machine, tmp_path: Path) -> None:
    """No second mount can be read-only if the first is not, and the other way round."""
    with ext4(tmp_path / "boot.img") as partition:
        boot, root = tmp_path / "boot", tmp_path / "root"
        boot.mkdir()
        root.mkdir()
        run("mount", partition, str(boot))
        run("cp", "-a", f"{named.root}/boot/.", str(boot))
        for path in (boot / "loader/entries").iterdir():
            path.write_text(path.read_text().replace("/root/boot/", "/"))
        run("umount", str(boot))
        add_line(named, f"UUID={uuid_of(partition)} /boot ext4 defaults 1 2")
        name = named.upgrade()
        with off(named) as device:
            for how, its in (("ro", "rw"), ("rw", "ro"), ("ro", "ro"), ("rw", "rw")):
                run("mount", "-o", f"{how},subvol=root", device, str(root))
                run("mount", "-o", its, partition, str(boot))
                try:
                    assert name in done(device, "list", "--json").out
                    if how == "ro":
                        assert "is read-only" in refused(device, "rollback", "--yes")
                    assert run("findmnt", "-no", "OPTIONS", str(root)).startswith(f"{how},")
                    assert run("findmnt", "-no", "OPTIONS", str(boot)).startswith(f"{its},")
                finally:
                    run("umount", str(boot))
                    run("umount", str(root))
            run("mount", partition, str(boot))
            try:
                done(device, "rollback", "--yes")
            finally:
                run("umount", str(boot))
        assert named.read("usr/bin/app") == "version 1\n"
