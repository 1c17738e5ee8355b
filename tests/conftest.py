# SPDX-License-Identifier: GPL-2.0-or-later
"""The rule of the tiers: only tests/unit is for everyone, each other directory needs root.

Without root their modules are skipped, one visible line each, before they are imported: what they
import may not be installed. With FS_ROLLBACK_TESTS=require that is a failure, so that a machine
that is meant to run everything cannot pass by running little.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Optional, Union

import pytest

from tests.sandbox.product import build_product

_TESTS = Path(__file__).parent
_REASON = "needs root; only tests/unit does not"


# A shell starts background jobs with SIGINT ignored, and so would everything the tests start be.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # and nohup this


class _WithheldModule(pytest.Module):
    """A test module that is reported, but neither imported nor run."""

    def collect(self) -> Iterator[Union[pytest.Item, pytest.Collector]]:
        if os.environ.get("FS_ROLLBACK_TESTS") == "require":
            raise pytest.Collector.CollectError(f"{_REASON}, and FS_ROLLBACK_TESTS=require is set")
        pytest.skip(_REASON, allow_module_level=True)


def pytest_pycollect_makemodule(
    module_path: Path, parent: pytest.Collector
) -> Optional[pytest.Module]:
    """Withhold a module of a tier that needs root from anyone else."""
    if os.geteuid() == 0 or (_TESTS / "unit") in module_path.parents:
        return None
    module: pytest.Module = _WithheldModule.from_parent(parent, path=module_path)
    return module


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave what is rare to the runs in which all is wanted, as tests/vm does with its stories."""
    if os.environ.get("FS_ROLLBACK_VM") == "full":
        return
    rare = [item for item in items if item.get_closest_marker("rare")]
    if rare:
        config.hook.pytest_deselected(items=rare)
        items[:] = [item for item in items if item not in set(rare)]


@pytest.fixture(scope="session")
def product_rpms(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The packages of this checkout, fs-rollback first; built once."""
    return build_product(tmp_path_factory.mktemp("product"))
