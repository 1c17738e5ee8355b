# SPDX-License-Identifier: GPL-2.0-or-later
"""What strangers find the project by: one address and one version, in whichever file they are."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from fs_rollback import __version__
from fs_rollback.cli.main import main
from tests.need import withhold

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
_PAGES = (CHECKOUT / "README.md", CHECKOUT / "CONTRIBUTING.md")


def _named(what: re.Pattern[str]) -> dict[str, set[str]]:
    """Return what is named in whatever people read, by the files that name it."""
    paths = {path for place in _PLACES for path in CHECKOUT.glob(place) if path.is_file()}
    texts = {path: path.read_text() for path in paths if "__pycache__" not in path.parts}
    found = {str(path.relative_to(CHECKOUT)): set(what.findall(t)) for path, t in texts.items()}
    return {file: names for file, names in found.items() if names}


def test_one_address() -> None:
    found = _named(_ADDRESS)
    assert {"packaging/fs-rollback.spec", "packaging/ansible/galaxy.yml", "setup.cfg"} <= set(found)
    assert {name: names for name, names in found.items() if names != {FORGE}} == {}


def test_packages_are_called_by_their_names() -> None:
    ours = set(re.findall(r"^%package -n (\S+)$", _SPEC, re.MULTILINE))
    kinds = "ansible-collection|libdnf5-plugin|python3-dnf-plugin"
    found = _named(re.compile(rf"\b(?:{kinds})-fs[\w-]*\w"))
    assert {"docs/fleets.md", "packaging/fs-rollback.spec"} <= set(found)
    assert {file: names - ours for file, names in found.items() if names - ours} == {}


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


def _yaml(path: Path) -> dict[str, Any]:
    """Return what a file of the forge says; it is read with what Ansible brings."""
    try:
        import yaml
    except ImportError:
        withhold("PyYAML is not installed")
    loaded: dict[str, Any] = yaml.safe_load(path.read_text())
    return loaded


def test_packit_builds_this_tree() -> None:
    """Its own check, `packit config validate`, takes eighty packages: see .packit.yaml."""
    packit = _yaml(CHECKOUT / ".packit.yaml")
    assert packit["upstream_project_url"] == FORGE
    assert packit["upstream_package_name"] == packit["downstream_package_name"] == "fs-rollback"
    assert (CHECKOUT / packit["specfile_path"]).is_file()
    tag = packit["upstream_tag_template"].format(version="%{version}")
    assert f"%{{forgeurl}}/archive/{tag}/" in _SPEC
    actions = packit["actions"]
    done = subprocess.run(
        shlex.split(actions["get-current-version"]),
        cwd=CHECKOUT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == f"{__version__}\n"
    made = re.findall(r"^(\w+):", (CHECKOUT / "Makefile").read_text(), re.MULTILINE)
    assert shlex.split(actions["create-archive"])[-1] in made


def test_packit_builds_for_all_that_are_supported_and_tests_what_it_built() -> None:
    targets: dict[tuple[str, str], set[str]] = {}
    copr = ""
    for job in _yaml(CHECKOUT / ".packit.yaml")["jobs"]:
        targets[job["job"], job["trigger"]] = set(job["targets"])
        if job["trigger"] == "release":
            copr = f"{job['owner']}/{job['project']}"
    everywhere = {"fedora-stable", "fedora-rawhide", "epel-9", "epel-10"}
    assert targets["copr_build", "pull_request"] == everywhere
    assert targets["copr_build", "release"] == everywhere
    # EL has no btrfs to test on.
    assert targets["tests", "pull_request"] == {"fedora-stable", "fedora-rawhide"}
    told = [re.findall(r"dnf copr enable (\S+/\S+?)`?[,\s]", page.read_text()) for page in _PAGES]
    assert {name for names in told for name in names} == {copr}


def test_packit_runs_the_plans_of_tmt() -> None:
    """Testing Farm looks for them by a regular expression, from the root that .fmf marks."""
    assert (CHECKOUT / ".fmf/version").read_text() == "1\n"
    plans = _yaml(CHECKOUT / "tests/tmt/plans.fmf")
    names = [f"/tests/tmt/plans{name}" for name in plans if name.startswith("/")]
    patterns = [job["tmt_plan"] for job in _yaml(CHECKOUT / ".packit.yaml")["jobs"]
                if job["job"] == "tests"]  # fmt: skip
    assert (len(names), len(patterns)) == (3, 1)
    assert all(re.search(pattern, name) for pattern in patterns for name in names)


def test_the_form_for_bugs_asks_for_what_there_is() -> None:
    form = _yaml(CHECKOUT / ".github/ISSUE_TEMPLATE/bug.yml")
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert len({field["id"] for field in fields}) == len(fields)
    assert all(field["attributes"]["label"] for field in fields)
    asked = "\n".join(str(field["attributes"]) for field in fields)
    commands = {tuple(words.split()) for words in re.findall(r"`fs-rollback ([^`]+)`", asked)}
    assert {("check", "--json"), ("status",), ("log",)} <= commands
    for name, *options in commands:
        help_text = io.StringIO()
        with pytest.raises(SystemExit) as ended, contextlib.redirect_stdout(help_text):
            main([name, "--help"])
        assert ended.value.code == 0, name
        assert all(option in help_text.getvalue() for option in options), (name, options)


def test_nobody_tells_of_a_weakness_in_public() -> None:
    links = _yaml(CHECKOUT / ".github/ISSUE_TEMPLATE/config.yml")["contact_links"]
    assert f"{FORGE}/security/policy" in {link["url"] for link in links}
