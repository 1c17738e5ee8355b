# SPDX-License-Identifier: GPL-2.0-or-later
"""What a review for Fedora looks at, as far as it can be looked at here: its MUSTs and SHOULDs.

fedora-review needs mock and Fedora's repositories. What rpmlint knows is in test_rpm.py.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from fs_rollback import __version__
from tests.packaging.conftest import AS_NOBODY, output
from tests.sandbox.product import CHECKOUT

_SPEC = CHECKOUT / "packaging/fs-rollback.spec"
_SECTION = re.compile(r"^%(prep|generate_buildrequires|build|install|check|pre\w*|post\w*|files)\b")
_COLLECTION = "ansible-collection-fs_rollback-snapshots"
_DNF5 = "libdnf5-plugin-fs-snapshot"
# Of packages that every system has, or that ours ask for; any other directory is its own.
_OTHERS = {
    "/etc", "/usr/bin", "/usr/lib", "/usr/libexec", "/usr/share", "/usr/share/doc",
    "/usr/share/licenses", "/usr/share/bash-completion", "/usr/share/bash-completion/completions",
    *(f"/usr/share/man{part}" for part in ("", "/man5", "/man7", "/man8")),
    *(f"/usr/lib/systemd/system{part}" for part in ("", "-preset", "-generators")),
    "/usr/lib/systemd", "/var", "/var/cache",
    "/etc/dnf/libdnf5-plugins", "/etc/dnf/libdnf5-plugins/actions.d",
}  # fmt: skip
# Of Python, of dnf 4, and of whichever package has put a module there first.
_SITE = re.compile(r"/usr/lib/python3[\d.]*(/(dist|site)-packages(/dnf-plugins)?(/__pycache__)?)?")
_INTERPRETERS = (b"#!/usr/bin/python3", b"#!/usr/bin/bash\n", b"#!/bin/bash\n", b"#!/bin/sh\n")


def _name(rpm: Path) -> str:
    return output("rpm", "--query", "--package", "--queryformat=%{NAME}", str(rpm))


def _files(rpm: Path) -> list[list[str]]:
    """Return mode, owner, flags, and path of each file."""
    tags = ("FILEMODES:perms", "FILEUSERNAME", "FILEFLAGS:fflags", "FILENAMES")
    each = "\t".join(f"%{{{tag}}}" for tag in tags)
    told = output("rpm", "--query", "--package", f"--queryformat=[{each}\n]", str(rpm))
    return [line.split("\t") for line in told.splitlines()]


def _spec_lines() -> list[tuple[str, str]]:
    """Return each line of the spec that is no comment and no prose, with its section."""
    section, lines = "preamble", []
    for line in _SPEC.read_bytes().decode("utf-8").splitlines():
        if line.startswith(("%description", "%changelog")):
            section = "prose"
        elif line.startswith("%package"):
            section = "preamble"
        elif found := _SECTION.match(line):
            section = found.group(1)
        if section != "prose" and not line.startswith("#"):
            lines.append((section, line))
    return lines


def test_the_spec_has_nothing_of_the_past_and_no_paths() -> None:
    lines = _spec_lines()
    outdated = re.compile(
        r"^(Group|BuildRoot|Packager|Vendor|Copyright):|^%(clean|define|defattr)\b"
        r"|RPM_BUILD_ROOT|rm -rf %\{buildroot\}"
    )
    assert [line for _, line in lines if outdated.search(line)] == []
    # The place of a file is a macro's; --lib is dracut's own place, on each architecture.
    placed = [line for _, line in lines if re.search(r"(?<![\w.}])/(usr|etc|var|opt)/", line)]
    assert placed == []
    assert {s for s, line in lines if "%{buildroot}" in line} == {"install"}
    (release,) = [line for _, line in lines if line.startswith("Release:")]
    assert release.endswith("%{?dist}")


def test_the_changelog_says_when_and_which_version() -> None:
    told = subprocess.run(
        ["rpmspec", "--load=tests/packaging/macros", "--query", "--srpm",
         "--queryformat=[%{CHANGELOGNAME}\n]", str(_SPEC)],
        cwd=CHECKOUT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert told.stderr == "", "rpm finds a weekday that is not that of its date"
    (release,) = re.findall(r"^Release: +(\d+)%{\?dist}$", _SPEC.read_text(), re.MULTILINE)
    assert told.stdout.splitlines()[0].endswith(f" - {__version__}-{release}")


@pytest.mark.parametrize(
    ("macro", "has_dnf5"), [("rhel 9", False), ("rhel 10", False), ("fedora 43", True)]
)
def test_every_package_can_be_installed_where_it_is_built(macro: str, *, has_dnf5: bool) -> None:
    """EL has no libdnf5-plugin-actions, in no repository."""
    names = output(
        "rpmspec", f"--load={CHECKOUT}/tests/packaging/macros", f"--define={macro}", "--query",
        "--queryformat=%{NAME}\n", str(_SPEC),
    ).split()  # fmt: skip
    assert len(names) == len(set(names)) == (5 if has_dnf5 else 4)
    assert (_DNF5 in names) == has_dnf5


def test_no_file_is_in_two_packages(product_rpms: list[Path]) -> None:
    owners: dict[str, list[str]] = {}
    for rpm in product_rpms:
        for mode, _, _, path in _files(rpm):
            if not mode.startswith("d"):
                owners.setdefault(path, []).append(_name(rpm))
    assert len(owners) > 300
    assert {path: names for path, names in owners.items() if len(names) > 1} == {}


def test_files_are_roots_and_nobody_elses_to_write(product_rpms: list[Path]) -> None:
    for rpm in product_rpms:
        for mode, owner, _, path in _files(rpm):
            assert owner == "root", path
            assert re.fullmatch(r"(-rw-r--r--|-rwxr-xr-x|drwxr-xr-x)", mode) or (mode, path) == (
                "drwx------",
                "/var/cache/fs-rollback",
            ), (mode, path)
            assert not path.startswith(("/opt", "/srv", "/usr/local", "/home", "/tmp", "/run"))
            assert ".egg-info" not in path


def test_each_directory_is_somebodys(product_rpms: list[Path]) -> None:
    """Of the package, of fs-rollback, which all but the collection ask for, or of the system."""
    listed = {_name(rpm): {path for *_, path in _files(rpm)} for rpm in product_rpms}
    for name, paths in listed.items():
        of_base = set() if name == _COLLECTION else listed["fs-rollback"]
        parents = {os.path.dirname(path) for path in paths} - paths - of_base - _OTHERS
        assert {path for path in parents if not _SITE.fullmatch(path)} == set(), name


def test_each_package_has_its_licence(product_rpms: list[Path]) -> None:
    for rpm in product_rpms:
        (licence,) = [path for _, _, flags, path in _files(rpm) if "l" in flags]
        assert licence == f"/usr/share/licenses/{_name(rpm)}/LICENSE"
        tag = output("rpm", "--query", "--package", "--queryformat=%{LICENSE}", str(rpm))
        assert tag == "GPL-2.0-or-later"


def test_each_command_and_configuration_has_its_manual_page(product_rpms: list[Path]) -> None:
    paths = {path for rpm in product_rpms for *_, path in _files(rpm)}
    commands = {p.rpartition("/")[2] for p in paths if p.startswith(("/usr/bin/", "/usr/sbin/"))}
    assert commands == {"fs-rollback"}
    for name in commands:
        assert f"/usr/share/man/man8/{name}.8.gz" in paths
    assert "/usr/share/man/man5/fs-rollback.conf.5.gz" in paths


def test_programs_say_which_interpreter_starts_them(unpacked: Path) -> None:
    """By its path: neither env, which takes the first one of PATH, nor a Python without version."""
    programs = [p for p in unpacked.rglob("*") if p.is_file() and p.stat().st_mode & 0o111]
    assert len(programs) > 5
    for path in programs:
        assert path.read_bytes().startswith(_INTERPRETERS), path


def test_requires_and_provides_are_sane(product_rpms: list[Path]) -> None:
    for rpm in product_rpms:
        name = _name(rpm)
        query = ("rpm", "--query", "--package")
        requires = output(*query, "--requires", str(rpm)).splitlines()
        files = {line for line in requires if line.startswith("/")}
        assert all(path.startswith(("/usr/bin/", "/bin/")) for path in files), files
        own = [line for line in requires if line.startswith("fs-rollback ")]
        release = output(*query, "--queryformat=%{VERSION}-%{RELEASE}", str(rpm))
        alone = name in ("fs-rollback", _COLLECTION)
        assert own == ([] if alone else [f"fs-rollback = {release}"])
        provides = output(*query, "--provides", str(rpm)).splitlines()
        assert f"{name} = {release}" in provides
        others = {line for line in provides if not line.startswith((name, f"config({name})"))}
        # Fedora's generator adds the names of the Python package.
        others = {line for line in others if not line.startswith("python3")}
        collection = {f"ansible-collection(fs_rollback.snapshots) = {__version__}"}
        assert others == (collection if name == _COLLECTION else set())


def test_the_scriptlets_are_shell(product_rpms: list[Path]) -> None:
    count = 0
    for rpm in product_rpms:
        for tag in ("PREIN", "POSTIN", "PREUN", "POSTUN", "PRETRANS", "POSTTRANS"):
            query = ("rpm", "--query", "--package", f"--queryformat=%{{{tag}}}")
            text = output(*query, str(rpm))
            if text != "(none)":
                count += 1
                assert "%" not in text, "a macro that is not there"
                subprocess.run(["sh", "-n", "-c", text], check=True)
    assert count == 3


def test_the_digests_are_right(product_rpms: list[Path]) -> None:
    for rpm in product_rpms:
        assert output("rpm", "--checksig", str(rpm)).strip().endswith("digests OK")


def test_rebuilt_from_its_source_by_a_user_as_for_epel(
    product_rpms: list[Path], nobodys: Path
) -> None:
    """As a build system does it: from the source package alone, and with what is left out there."""
    make = [*AS_NOBODY, "make", "--silent", "srpm"]
    subprocess.run(make, cwd=nobodys, check=True, capture_output=True)
    (source,) = nobodys.glob("dist/*.src.rpm")
    top = nobodys.parent
    left_out = ("tests", "dnf5", "preset")
    done = subprocess.run(
        [*AS_NOBODY, "rpmbuild", "--rebuild", "--nodeps", f"--define=_topdir {top}",
         f"--load={nobodys}/tests/packaging/macros", f"--define=_tmppath {top}",
         *(f"--without={name}" for name in left_out), str(source)],
        env={"PATH": "/usr/bin:/bin", "HOME": str(top), "LC_ALL": "C.UTF-8"},
        cwd=top, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    built = {_name(rpm): _files(rpm) for rpm in top.glob("RPMS/noarch/*.rpm")}
    wanted = {_name(rpm): _files(rpm) for rpm in product_rpms if _name(rpm) != _DNF5}
    preset = "/usr/lib/systemd/system-preset/95-fs-rollback.preset"
    base = wanted["fs-rollback"]
    wanted["fs-rollback"] = [file for file in base if file[3] != preset]
    assert len(base) == len(wanted["fs-rollback"]) + 1
    assert built == wanted
