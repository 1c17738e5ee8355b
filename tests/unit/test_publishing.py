# SPDX-License-Identifier: GPL-2.0-or-later
"""What strangers find the project by: one address and one version, in whichever file they are."""

from __future__ import annotations

import re
from pathlib import Path

from fs_rollback import __version__

CHECKOUT = Path(__file__).parents[2]
_SPEC = (CHECKOUT / "packaging/fs-rollback.spec").read_text()
(FORGE,) = re.findall(r"^%global forgeurl (\S+)$", _SPEC, re.MULTILINE)
# On whichever host: what names this project, and not another one.
_ADDRESS = re.compile(r"https?://[\w.-]+/[\w.@-]+/fs-(?:rollback|snapshot)\b")
_PLACES = (
    "*.md",
    "*.cfg",
    ".packit.yaml",
    ".github/**/*",
    "docs/*",
    "packaging/**/*",
    "rollback/**/*.py",
)


def _addresses() -> dict[str, set[str]]:
    paths = {path for place in _PLACES for path in CHECKOUT.glob(place) if path.is_file()}
    texts = {path: path.read_text() for path in paths if "__pycache__" not in path.parts}
    found = {str(p.relative_to(CHECKOUT)): set(_ADDRESS.findall(text)) for p, text in texts.items()}
    return {name: addresses for name, addresses in found.items() if addresses}


def test_one_address() -> None:
    found = _addresses()
    assert {"packaging/fs-rollback.spec", "packaging/ansible/galaxy.yml", "setup.cfg"} <= set(found)
    assert {name: names for name, names in found.items() if names != {FORGE}} == {}


def test_the_spec_writes_it_once() -> None:
    assert _SPEC.count(FORGE) == 1
    assert "\nURL:            %{forgeurl}\n" in _SPEC
    (source,) = re.findall(r"^Source0: +%{forgeurl}/(\S+)$", _SPEC, re.MULTILINE)
    # rpmbuild looks for a file with the last part as its name: `make rpm` writes it.
    assert source.rpartition("/")[2] == "%{name}-%{version}.tar.gz"


def test_one_version() -> None:
    """setup.cfg takes it from the package; these files have to write it down again."""
    assert re.findall(r"^Version: +(\S+)$", _SPEC, re.MULTILINE) == [__version__]
    assert re.findall(r"^\* .* - (\S+)-\d+$", _SPEC, re.MULTILINE)[0] == __version__
    galaxy = (CHECKOUT / "packaging/ansible/galaxy.yml").read_text()
    assert f"\nversion: {__version__}\n" in galaxy
    changes = (CHECKOUT / "CHANGELOG.md").read_text()
    assert re.findall(r"^## (\S+?),? ", changes, re.MULTILINE)[0] == __version__
    assert "attr: fs_rollback.__version__" in (CHECKOUT / "setup.cfg").read_text()
