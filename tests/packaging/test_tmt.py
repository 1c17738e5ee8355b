# SPDX-License-Identifier: GPL-2.0-or-later
"""What tmt says of the plans and stories of tests/tmt, and what these tell it of a step that fails.

The stories themselves are told on machines by tests/vm/test_tmt.py.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.need import need, withhold
from tests.sandbox.product import CHECKOUT

TMT = Path(sys.executable).with_name("tmt")
_STORIES = CHECKOUT / "tests/tmt"


@pytest.fixture(name="scripts", scope="module")
def _scripts() -> Path:
    """Return the directory with what tmt puts on a machine."""
    found = find_spec("tmt")
    if found is None or found.origin is None:
        withhold("tmt is not installed")
    return Path(found.origin).parent / "steps/scripts"


@pytest.mark.usefixtures("scripts")
def test_lint() -> None:
    done = subprocess.run(
        [TMT, "--root", CHECKOUT, "lint"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line.split() for line in done.stdout.splitlines() if line]
    assert {words[0] for words in lines if len(words) > 1} <= {"pass", "skip", "Lint"}, done.stdout
    names = {words[0].rpartition("/")[2] for words in lines if words[0].startswith("/tests/tmt/")}
    assert names == {"convert", "dnf4", "dnf5", "install", "labels", "upgrade"}


@pytest.mark.parametrize(
    ("story", "told"),
    [
        ("step one; true; step two; true", [("one", "pass"), ("two", "pass")]),
        ("step one; false; step two", [("one: exit status 1", "fail")]),
        ("step one; step two; (exit 7)", [("one", "pass"), ("two: exit status 7", "fail")]),
        ("no-such-command", [("the begin: exit status 127", "fail")]),
    ],
)
def test_a_step_that_fails_is_told(
    story: str, told: list[tuple[str, str]], scripts: Path, tmp_path: Path
) -> None:
    """What ends a script fails its step: tmt takes no notice of the exit status then."""
    need("bash")
    library = (_STORIES / "lib.sh").read_text().replace("/root/", f"{tmp_path}/")
    (tmp_path / "lib.sh").write_text(library)
    environment = {
        "PATH": f"{scripts}:/usr/bin:/bin", "DNF": "dnf",
        "TMT_TEST_PIDFILE": "/nowhere", "TMT_TEST_DATA": str(tmp_path),
    }  # fmt: skip
    subprocess.run(
        ["sh", "-c", f". ./lib.sh\n{story}"],
        cwd=tmp_path, env=environment, capture_output=True, check=False,
    )  # fmt: skip
    lines = (tmp_path / "tmt-report-results.yaml").read_text().splitlines()
    values = [line.split('"')[1] for line in lines if '"' in line and "end-time" not in line]
    assert list(zip(values[::2], values[1::2])) == [(f"/{name}", how) for name, how in told]
