# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine with dnf 5 that cannot be made: its tests are withheld, and an error where required."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sandbox.base import is_debian
from tests.sandbox.product import CHECKOUT

_ASK = """
from tests.dnf.conftest import image_of
from tests.sandbox.engine import Engine
from tests.sandbox.layout import Layout
image_of(Layout.NAMED, Engine.DNF5)
"""


@pytest.mark.skipif(not is_debian(), reason="mmdebstrap is Debian's")
@pytest.mark.parametrize(("demand", "end"), [("require", "Failed"), ("", "Skipped")])
def test_without_mmdebstrap(tmp_path: Path, demand: str, end: str) -> None:
    hide = 'mount --bind /dev/null "$(command -v mmdebstrap)" && exec "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", hide, "sh", sys.executable, "-c", _ASK],
        cwd=CHECKOUT,
        env={
            **os.environ,
            "FS_ROLLBACK_CACHE": str(tmp_path),
            "FS_ROLLBACK_TESTS": demand,
            "PYTHONPATH": os.pathsep.join([".", "rollback"]),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert f"{end}: no sandbox with dnf 5: " in done.stderr.splitlines()[-1]
    assert "mmdebstrap" in done.stderr
