# SPDX-License-Identifier: GPL-2.0-or-later
"""What a test does where it cannot run: it is skipped, and fails where all are to be run."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest


def withhold(reason: str) -> NoReturn:
    """Skip the test, visibly; fail it where FS_ROLLBACK_TESTS=require is set."""
    if os.environ.get("FS_ROLLBACK_TESTS") == "require":
        pytest.fail(f"{reason}, and FS_ROLLBACK_TESTS=require is set")
    pytest.skip(reason)


def need(*tools: str) -> None:
    """Withhold the test where one of these programs is missing."""
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        withhold(f"not installed: {', '.join(missing)}")
