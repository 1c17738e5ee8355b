# SPDX-License-Identifier: GPL-2.0-or-later
"""Real RPMs from a few lines of Python, a repository of them, and the product as RPMs.

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

_SPEC = """\
Name: {name}
Version: {version}
Release: {release}
Summary: {name}
License: GPL-2.0-or-later
BuildArch: {arch}
AutoReqProv: no
{tags}
%description
{name}, made by a test.

%install
mkdir -p %{{buildroot}}
cp -a {tree}/. %{{buildroot}}/
{install}
%files
%defattr(-,root,root)
{files}
{scriptlets}
"""

_LAUNCHER = """\
#!/usr/bin/python3 -s
import sys

from fs_rollback.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
"""


@dataclass(frozen=True)
class Package:
    """What an RPM shall be.

    `files` maps absolute paths to their text, or to a file of the host with what they hold: what
    begins with #! is executable, what lies below /etc is configuration that an upgrade does not
    replace. `scriptlets` maps pre, post, preun,
    postun, pretrans or posttrans to shell text.
    """

    name: str
    version: str
    release: str = "1"
    files: Mapping[str, Union[str, Path]] = field(default_factory=dict)
    requires: Sequence[str] = ()
    provides: Sequence[str] = ()
    scriptlets: Mapping[str, str] = field(default_factory=dict)
    arch: str = "noarch"
    byte_compile: bool = False

    @property
    def file_name(self) -> str:
        """The name of the file that `build` makes."""
        return f"{self.name}-{self.version}-{self.release}.{self.arch}.rpm"


def build(packages: Iterable[Package], directory: Path) -> list[Path]:
    """Build the packages into `directory`; return their files in the same order."""
    wanted = list(packages)
    with tempfile.TemporaryDirectory() as top:
        specs = [_write_source(package, Path(top, str(n))) for n, package in enumerate(wanted)]
        definitions = {
            "_topdir": top,
            "_rpmdir": os.fspath(directory),
            "_build_name_fmt": "%%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm",
            "_binary_payload": "w1.gzdio",
            "debug_package": "%{nil}",
            "__os_install_post": "%{nil}",
        }
        command = ["rpmbuild", "-bb", "--quiet", "--nodeps"]
        for name, value in definitions.items():
            command += ["--define", f"{name} {value}"]
        # A home of its own: nobody's ~/.rpmmacros takes part.
        environment = {**os.environ, "HOME": top, "LC_ALL": "C"}
        done = subprocess.run(
            [*command, *specs], env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(f"rpmbuild failed:\n{done.stdout}{done.stderr}")
    return [directory / package.file_name for package in wanted]


def publish(repository: Path) -> None:
    """Make the directory of RPMs a repository, or renew its list of what is there."""
    command = ["createrepo_c", "--quiet", "--update", os.fspath(repository)]
    subprocess.run(command, check=True, capture_output=True)


def product_packages(source_tree: Path, version: str) -> tuple[Package, Package]:
    """Return fs-rollback and the dnf 4 plugin, made of a checkout of this repository.

    They go where the host's own Python and dnf look: a sandbox is of the same distribution.
    """
    script = "import dnf.const; print(dnf.const.PLUGINPATH)"
    # Not imported here: dnf takes a while, and the warnings of its modules would be ours.
    done = subprocess.run(
        ["/usr/bin/python3", "-c", script], check=True, capture_output=True, text=True
    )
    plugins = PurePosixPath(done.stdout.strip())
    library = _tree(source_tree / "rollback/fs_rollback", plugins.parent / "fs_rollback")
    etc = _tree(source_tree / "etc", PurePosixPath("/etc"))
    units = _tree(source_tree / "packaging/systemd", PurePosixPath("/usr/lib/systemd/system"))
    plugin_etc = {path: text for path, text in etc.items() if path.startswith("/etc/dnf/")}
    command_etc = {path: text for path, text in etc.items() if path not in plugin_etc}
    plugin = (source_tree / "plugin/dnf4/fs_snapshot.py").read_text()
    command = Package(
        "fs-rollback",
        version,
        files={**library, **command_etc, **units, "/usr/bin/fs-rollback": _LAUNCHER},
        byte_compile=True,
    )
    hook = Package(
        "python3-dnf-plugin-fs-snapshot",
        version,
        files={**plugin_etc, f"{plugins}/fs_snapshot.py": plugin},
        requires=[f"fs-rollback = {version}"],
        byte_compile=True,
    )
    return command, hook


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
    compiled = _compiled_directories(package)
    tags = [f"Requires: {name}" for name in package.requires]
    tags += [f"Provides: {name}" for name in package.provides]
    compile_command = "/usr/bin/python3 -m compileall -q -l -s %{buildroot} -p / %{buildroot}"
    spec = _SPEC.format(
        name=package.name,
        version=package.version,
        release=package.release,
        arch=package.arch,
        tree=tree,
        tags="".join(f"{tag}\n" for tag in tags),
        install="".join(f"{compile_command}{name}\n" for name in compiled),
        files="\n".join(
            [_file_line(name) for name in package.files]
            + [f"{name}/__pycache__/*.pyc" for name in compiled]
        ),
        scriptlets="\n".join(f"%{name}\n{text}\n" for name, text in package.scriptlets.items()),
    )
    path = directory / f"{package.name}.spec"
    path.write_text(spec)
    return os.fspath(path)


def _file_line(name: str) -> str:
    configuration = PurePosixPath(name).is_relative_to("/etc")
    return f'%config(noreplace) "{name}"' if configuration else f'"{name}"'


def _compiled_directories(package: Package) -> list[str]:
    if not package.byte_compile:
        return []
    modules = (PurePosixPath(name) for name in package.files if name.endswith(".py"))
    return sorted({str(module.parent) for module in modules})


def _tree(source: Path, target: PurePosixPath) -> dict[str, str]:
    """Return the text of each file below `source` by its path below `target`."""
    return {
        str(target / path.relative_to(source).as_posix()): path.read_text()
        for path in sorted(source.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
