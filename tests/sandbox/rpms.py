# SPDX-License-Identifier: GPL-2.0-or-later
"""Real RPMs from a few lines of Python, and a repository of them.

Written for the rpmbuild of Debian too, which has none of a distribution's macros.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Union

# Arguments of the macro: how many packages NAME-001, NAME-002, ... there are besides.
_MORE = """
%{{lua: for number = 1, {count} do
    local name = string.format("{name}-%03d", number)
    print("%package -n " .. name .. "\\nSummary: " .. name .. "\\n")
    local text = string.rep(name .. "\\n", 1 + {lines})
    print("%description -n " .. name .. "\\n" .. text .. "%files -n " .. name .. "\\n")
end}}
"""

_SPEC = """\
Name: {name}
Version: {version}
Release: {release}
Summary: {name}
License: GPL-2.0-or-later
AutoReqProv: no
{tags}
%description
{name}, made by a test.
{more}

%install
mkdir -p %{{buildroot}}
cp -a {tree}/. %{{buildroot}}/

%files
%defattr(-,root,root)
{files}
{scriptlets}
%changelog
{changelog}
"""


@dataclass(frozen=True)
class Package:
    """What an RPM shall be.

    `files` maps absolute paths to their text, or to a file of the host with what they hold: what
    begins with #! is executable, what lies below /etc is configuration that an upgrade does not
    replace. `scriptlets` maps pre, post, preun,
    postun, pretrans or posttrans to shell text. `more` is how many packages without a file, named
    NAME-001 and so on, come from the same source; each has `lines` more in its description, for a
    header of some length. `changelog` is as in a spec.
    """

    name: str
    version: str
    release: str = "1"
    files: Mapping[str, Union[str, Path]] = field(default_factory=dict)
    requires: Sequence[str] = ()
    provides: Sequence[str] = ()
    scriptlets: Mapping[str, str] = field(default_factory=dict)
    arch: str = "noarch"
    epoch: str = ""
    obsoletes: Sequence[str] = ()
    more: int = 0
    lines: int = 0
    changelog: str = ""

    @property
    def file_name(self) -> str:
        """The name of the file that `build` makes."""
        return f"{self.name}-{self.version}-{self.release}.{self.arch}.rpm"


def build(packages: Iterable[Package], directory: Path) -> list[Path]:
    """Build the packages into `directory`; return their files in the same order."""
    wanted = list(packages)
    for arch in sorted({package.arch for package in wanted}):
        _build([package for package in wanted if package.arch == arch], arch, directory)
    return [directory / package.file_name for package in wanted]


def _build(packages: Sequence[Package], arch: str, directory: Path) -> None:
    with tempfile.TemporaryDirectory() as top:
        specs = [_write_source(package, Path(top, str(n))) for n, package in enumerate(packages)]
        definitions = {
            "_topdir": top,
            "_rpmdir": os.fspath(directory),
            "_build_name_fmt": "%%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm",
            "_binary_payload": "w1.gzdio",
            "debug_package": "%{nil}",
            "__os_install_post": "%{nil}",
        }
        command = ["rpmbuild", "-bb", "--quiet", "--nodeps", f"--target={arch}"]
        for name, value in definitions.items():
            command += ["--define", f"{name} {value}"]
        # A home of its own: nobody's ~/.rpmmacros takes part.
        environment = {**os.environ, "HOME": top, "LC_ALL": "C"}
        done = subprocess.run(
            [*command, *specs], env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(f"rpmbuild failed:\n{done.stdout}{done.stderr}")


def publish(repository: Path) -> None:
    """Make the directory of RPMs a repository, or renew its list of what is there."""
    command = ["createrepo_c", "--quiet", "--update", os.fspath(repository)]
    subprocess.run(command, check=True, capture_output=True)


def _write_source(package: Package, directory: Path) -> str:
    """Write the files and the spec of a package; return the path of the spec."""
    tree = directory / "tree"
    tree.mkdir(parents=True)
    for name, content in package.files.items():
        path = tree / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Path):
            shutil.copyfile(content, path)
        else:
            path.write_text(content)
        with path.open("rb") as file:
            path.chmod(0o755 if file.read(2) == b"#!" else 0o644)
    tags = [f"Requires: {name}" for name in package.requires]
    tags += [f"Provides: {name}" for name in package.provides]
    tags += [f"Obsoletes: {name}" for name in package.obsoletes]
    tags += [f"Epoch: {package.epoch}"] if package.epoch else []
    spec = _SPEC.format(
        name=package.name,
        version=package.version,
        release=package.release,
        more=(
            _MORE.format(name=package.name, count=package.more, lines=package.lines)
            if package.more
            else ""
        ),
        tree=tree,
        tags="".join(f"{tag}\n" for tag in tags),
        files="\n".join(_file_line(name) for name in package.files),
        changelog=package.changelog,
        scriptlets="\n".join(f"%{name}\n{text}\n" for name, text in package.scriptlets.items()),
    )
    path = directory / f"{package.name}.spec"
    path.write_text(spec)
    return os.fspath(path)


def _file_line(name: str) -> str:
    configuration = PurePosixPath(name).is_relative_to("/etc")
    return f'%config(noreplace) "{name}"' if configuration else f'"{name}"'
