# SPDX-License-Identifier: GPL-2.0-or-later
"""The conversion with no more of Python than what the initramfs that converts gets."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests import manifest
from tests.kernel import commands
from tests.kernel.attached import attached
from tests.kernel.conversions import OWN, expect, prepared_image
from tests.kernel.ext4_images import on
from tests.kernel.machine import run

_CHECKOUT = Path(__file__).parents[2]
_LISTING = _CHECKOUT / "packaging/dracut/90fs-rollback/python-files"
_PYTHON = "/usr/bin/python3"
# In a mount table of its own: the libraries of Python are only what was listed. What is started may
# be in a directory that is hidden then, so it is found first. Arguments: FILES CODE DIRECTORY...
_SCRIPT = """
set -eu
files=$1 code=$2
shift 2
while [ "$1" != -- ]; do mount --bind "$files$1" "$1"; shift; done
shift
exec /usr/bin/python3 -s -c "$code" "$@"
"""
_CODE = (
    "import sys; sys.path.insert(0, '{}'); from fs_rollback.cli.main import main; sys.exit(main())"
)


def _listed(files: Path) -> set[str]:
    """Copy what is listed to below `files`; return the directories of Python's own libraries."""
    environment = commands.environment()
    done = subprocess.run(
        (_PYTHON, "-s", str(_LISTING)), env=environment, capture_output=True, text=True, check=True
    )
    paths = [Path(line) for line in done.stdout.splitlines()]
    for path in paths:
        target = files / str(path).lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)
    libraries = ("/usr/lib/python3", "/usr/lib64/python3")
    return {
        "/".join(path.parts[:4]).replace("//", "/")
        for path in paths
        if str(path).startswith(libraries)
    }


@pytest.mark.usefixtures("btrfs_progs")
def test_nothing_of_python_is_missing(tmp_path: Path) -> None:
    image = prepared_image(tmp_path)
    with on(image) as root:
        before = manifest.manifest(root, exclude=OWN)
    files = tmp_path / "files"
    directories = _listed(files)
    assert directories
    code = _CODE.format(files / str(_CHECKOUT / "rollback").lstrip("/"))
    with attached(image) as device:
        words = ("convert", "run", "--device", device, "--yes", "--have-backup")
        environment = commands.environment(PATH=os.environ["PATH"] + ":/usr/sbin:/sbin")
        environment.pop("PYTHONPATH")
        done = subprocess.run(
            ("unshare", "--mount", "sh", "-c", _SCRIPT, "alone", str(files), code,
             *sorted(directories), "--", *words),
            env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        # A device that somebody uses is told in words, too, not in a traceback.
        (tmp_path / "mnt").mkdir()
        run("mount", device, str(tmp_path / "mnt"))
        done = subprocess.run(
            ("unshare", "--mount", "sh", "-c", _SCRIPT, "alone", str(files), code,
             *sorted(directories), "--", *words),
            env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
        run("umount", str(tmp_path / "mnt"))
        assert (done.returncode, "Traceback" in done.stderr) == (3, False), done.stderr
    expect(image, "btrfs", before)
