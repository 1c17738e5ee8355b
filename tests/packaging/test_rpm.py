# SPDX-License-Identifier: GPL-2.0-or-later
"""The RPMs as files: how they are built, what is in them, what they ask for."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from fs_rollback import __version__
from tests.need import need
from tests.packaging.conftest import AS_NOBODY, output
from tests.sandbox.engine import Engine
from tests.sandbox.product import CHECKOUT

_SPEC = CHECKOUT / "packaging/fs-rollback.spec"
_COMMAND, _CONVERT = "fs-rollback", "fs-rollback-convert"
_COLLECTION = "ansible-collection-fs_rollback-snapshots"
_COLLECTIONS = "/usr/share/ansible/collections/ansible_collections"
_PLUGINS = sorted(engine.plugin for engine in Engine)
_DNF4, _DNF5 = Engine.DNF4.plugin, Engine.DNF5.plugin

# Where Python's own files lie differs between distributions and is left out here.
FILES: dict[str, set[str]] = {
    _COMMAND: {
        "/etc/dnf",
        "/etc/dnf/plugins",
        "/etc/dnf/plugins/fs-snapshot.conf",
        "/etc/fs-rollback",
        "/etc/fs-rollback.conf",
        "/etc/fs-rollback/health.d",
        "/usr/bin/fs-rollback",
        "/usr/lib/systemd/system-generators/fs-rollback-guard-generator",
        "/usr/lib/systemd/system-preset/95-fs-rollback.preset",
        "/usr/lib/systemd/system/fs-rollback-.service.d",
        "/usr/lib/systemd/system/fs-rollback-.service.d/hardening.conf",
        "/usr/lib/systemd/system/fs-rollback-boot.service",
        "/usr/lib/systemd/system/fs-rollback-again.service",
        "/usr/lib/systemd/system/fs-rollback-emergency.service",
        "/usr/lib/systemd/system/fs-rollback-guard.service",
        "/usr/lib/systemd/system/fs-rollback-health.service",
        "/usr/lib/systemd/system/fs-rollback-health.service.d",
        "/usr/lib/systemd/system/fs-rollback-health.service.d/hardening.conf",
        "/usr/lib/systemd/system/fs-rollback-healthy.service",
        "/usr/lib/systemd/system/fs-rollback-prune.service",
        "/usr/lib/systemd/system/fs-rollback-prune.timer",
        "/usr/lib/systemd/system/fs-rollback-settle.service",
        "/usr/lib/systemd/system/fs-rollback-unhealthy.service",
        "/usr/lib/systemd/system/packagekit-offline-update.service.d",
        "/usr/lib/systemd/system/packagekit-offline-update.service.d/fs-snapshot.conf",
        "/usr/libexec/fs-snapshot-packagekit",
        "/usr/share/bash-completion/completions/fs-rollback",
        "/usr/share/fish",
        "/usr/share/fish/vendor_completions.d",
        "/usr/share/fish/vendor_completions.d/fs-rollback.fish",
        "/usr/share/fs-rollback",
        "/usr/share/fs-rollback/schemas",
        "/usr/share/fs-rollback/schemas/1",
        "/usr/share/fs-rollback/schemas/1/create.schema.json",
        "/usr/share/fs-rollback/schemas/1/delete.schema.json",
        "/usr/share/fs-rollback/schemas/1/pin.schema.json",
        "/usr/share/fs-rollback/schemas/1/try.schema.json",
        "/usr/share/fs-rollback/schemas/1/unpin.schema.json",
        "/usr/share/fs-rollback/schemas/1/check.schema.json",
        "/usr/share/fs-rollback/schemas/1/diff.schema.json",
        "/usr/share/fs-rollback/schemas/1/guard.schema.json",
        "/usr/share/fs-rollback/schemas/1/list.schema.json",
        "/usr/share/fs-rollback/schemas/1/log.schema.json",
        "/usr/share/fs-rollback/schemas/1/mount.schema.json",
        "/usr/share/fs-rollback/schemas/1/prune.schema.json",
        "/usr/share/fs-rollback/schemas/1/restore.schema.json",
        "/usr/share/fs-rollback/schemas/1/rollback.schema.json",
        "/usr/share/fs-rollback/schemas/1/settle.schema.json",
        "/usr/share/fs-rollback/schemas/1/show.schema.json",
        "/usr/share/fs-rollback/schemas/1/status.schema.json",
        "/usr/share/fs-rollback/schemas/1/umount.schema.json",
        "/usr/share/fs-rollback/schemas/1/undo.schema.json",
        "/usr/share/man/man5/fs-rollback.conf.5.gz",
        "/usr/share/man/man7/fs-rollback-json.7.gz",
        "/usr/share/man/man8/fs-rollback.8.gz",
        "/usr/share/man/man8/fs-snapshot.8.gz",
        "/usr/share/zsh",
        "/usr/share/zsh/site-functions",
        "/usr/share/zsh/site-functions/_fs-rollback",
        "/var/cache/fs-rollback",
    },
    _CONVERT: {
        "/usr/lib/dracut",
        "/usr/lib/dracut/modules.d",
        "/usr/lib/dracut/modules.d/90fs-rollback",
        "/usr/lib/dracut/modules.d/90fs-rollback/convert.sh",
        "/usr/lib/dracut/modules.d/90fs-rollback/emergency.sh",
        "/usr/lib/dracut/modules.d/90fs-rollback/fs-rollback-convert.service",
        "/usr/lib/dracut/modules.d/90fs-rollback/module-setup.sh",
        "/usr/lib/dracut/modules.d/90fs-rollback/pre-mount.sh",
        "/usr/lib/dracut/modules.d/90fs-rollback/python-files",
        "/usr/share/fs-rollback/schemas/1/convert-abort.schema.json",
        "/usr/share/fs-rollback/schemas/1/convert-check.schema.json",
        "/usr/share/fs-rollback/schemas/1/convert-finish.schema.json",
        "/usr/share/fs-rollback/schemas/1/convert-prepare.schema.json",
        "/usr/share/man/man8/fs-rollback-convert.8.gz",
    },
    _DNF4: set(),
    _DNF5: {
        "/etc/dnf/libdnf5-plugins/actions.d/fs-snapshot.actions",
        "/usr/libexec/fs-snapshot-dnf5",
    },
    _COLLECTION: {
        "/usr/share/ansible",
        "/usr/share/ansible/collections",
        _COLLECTIONS,
        f"{_COLLECTIONS}/fs_rollback",
        *(
            f"{_COLLECTIONS}/fs_rollback/snapshots{name}"
            for name in (
                "",
                "/README.md",
                "/galaxy.yml",
                "/meta",
                "/meta/runtime.yml",
                "/playbooks",
                "/playbooks/fleet_table.yml",
                "/playbooks/update_fleet.yml",
                "/plugins",
                "/plugins/action",
                "/plugins/action/fs_rollback_boot.py",
                "/plugins/filter",
                "/plugins/filter/fleet_table.py",
                "/plugins/module_utils",
                "/plugins/module_utils/command.py",
                "/plugins/module_utils/snapshots.py",
                "/plugins/module_utils/summary.py",
                "/plugins/modules",
                "/plugins/modules/fs_rollback.py",
                "/plugins/modules/fs_rollback_boot.py",
                "/plugins/modules/fs_rollback_info.py",
                "/roles",
                "/roles/guarded_update",
                "/roles/guarded_update/defaults",
                "/roles/guarded_update/defaults/main.yml",
                "/roles/guarded_update/meta",
                "/roles/guarded_update/meta/argument_specs.yml",
                "/roles/guarded_update/meta/main.yml",
                "/roles/guarded_update/tasks",
                "/roles/guarded_update/tasks/boot.yml",
                "/roles/guarded_update/tasks/check.yml",
                "/roles/guarded_update/tasks/go_back.yml",
                "/roles/guarded_update/tasks/guard.yml",
                "/roles/guarded_update/tasks/main.yml",
                "/roles/guarded_update/tasks/reboot.yml",
                "/roles/guarded_update/tasks/return.yml",
                "/roles/guarded_update/tasks/snapshot.yml",
                "/roles/guarded_update/tasks/transaction.yml",
                "/roles/guarded_update/tasks/undo.yml",
                "/roles/guarded_update/tasks/unguard.yml",
                "/roles/guarded_update/tasks/update.yml",
                "/roles/guarded_update/templates",
                "/roles/guarded_update/templates/report.j2",
            )
        ),
    },
}
REQUIRES = {
    _COMMAND: {
        "/bin/sh",
        "/usr/bin/python3",
        "btrfs-progs >= 6.2",
        "coreutils",
        "python3-btrfsutil >= 6.2",
        "rpm",
        "util-linux-core",
    },
    _CONVERT: {
        "/bin/bash",
        "/bin/sh",
        "/usr/bin/python3",
        "e2fsprogs",
        f"fs-rollback = {__version__}-RELEASE",
    },
    _DNF4: {f"fs-rollback = {__version__}-RELEASE", "python3-dnf >= 4.14"},
    _DNF5: {
        "/usr/bin/python3",
        f"fs-rollback = {__version__}-RELEASE",
        # Older ones do not know raise_error, and then every command of dnf 5 fails.
        "libdnf5-plugin-actions >= 5.2.11",
    },
    _COLLECTION: {"ansible-core >= 2.14"},
}
CONFIGURATION: dict[str, set[str]] = {
    _COMMAND: {"/etc/dnf/plugins/fs-snapshot.conf", "/etc/fs-rollback.conf"},
    _CONVERT: set(),
    _DNF4: set(),
    _DNF5: {"/etc/dnf/libdnf5-plugins/actions.d/fs-snapshot.actions"},
    _COLLECTION: set(),
}


def _named(rpms: list[Path], name: str) -> str:
    (found,) = (str(rpm) for rpm in rpms if re.match(rf"{name}-[0-9]", rpm.name))
    return found


def _lines(rpm: str, *query: str) -> set[str]:
    return set(output("rpm", "--query", "--package", *query, rpm).splitlines())


def test_make_rpm(nobodys: Path) -> None:
    """As a user runs it in a clone; the package's own %check among it."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(nobodys.parent), "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        [*AS_NOBODY, "make", "rpm"],
        cwd=nobodys, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None, "%check ran no tests"
    assert int(passed.group(1)) > 1000
    kinds = sorted(
        re.sub(r"-[0-9].*?\.(src|noarch)\.rpm$", r" \1", p.name) for p in nobodys.glob("dist/*.rpm")
    )
    plugins = [f"{plugin} noarch" for plugin in _PLUGINS]
    command = [f"{_COMMAND} noarch", f"{_COMMAND} src", f"{_CONVERT} noarch"]
    assert kinds == [f"{_COLLECTION} noarch", *command, *plugins]
    (path,) = nobodys.glob("dist/*.src.rpm")
    source = output("rpm", "--query", "--package", "--list", str(path))
    assert source.split() == ["fs-rollback-" + __version__ + ".tar.gz", "fs-rollback.spec"]


@pytest.mark.parametrize("name", ["a b", "a'b", "a(b)", "a$b", 'a"b', "a;b", "a&b", "a\\b"])
def test_a_path_that_rpmbuild_cannot_build_in(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    shutil.copy(CHECKOUT / "Makefile", tmp_path / name)
    done = subprocess.run(
        ["make", "rpm", "--old-file=deps", "--old-file=dist"],
        cwd=tmp_path / name, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "cannot build here: the path has a blank, or what a shell would read" in done.stderr


def test_the_source_archive_is_what_is_checked_out(nobodys: Path) -> None:
    """`make check` passes there too; what tests each commit is left out."""
    files = {str(p.relative_to(nobodys)) for p in nobodys.rglob("*") if not p.is_dir()}
    wanted = {name for name in files if not name.startswith((".ci/", ".gitignore"))}
    printed = output("make", "--silent", "--directory", str(nobodys), "dist").strip()
    packed = output("tar", "--list", "--file", str(nobodys / printed)).splitlines()
    names = {name.partition("/")[2] for name in packed if not name.endswith("/")}
    assert names == wanted


def _deps(*variables: str) -> tuple[int, str]:
    command = ["make", "--silent", "deps", *variables]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


def test_what_a_build_needs_and_does_not_find_is_named() -> None:
    assert _deps() == (0, "")
    code, told = _deps("needed=make no-such-package coreutils")
    assert code != 0
    assert re.search(r"^  (apt-get|dnf) install no-such-package$", told, re.MULTILINE), told


def test_on_fedora_it_is_what_the_spec_asks_for(tmp_path: Path) -> None:
    """With a database of rpm that has nothing; the packages of Debian have other names for some."""
    asked = re.findall(r"^BuildRequires: +(\S+)$", _SPEC.read_text(), re.MULTILINE)
    nothing = f"is_missing=! rpm --dbpath {tmp_path} --query --whatprovides $(1) >/dev/null 2>&1"
    _, told = _deps("debian=", nothing)
    assert f"\n  dnf install rpm-build {' '.join(asked)}\n" in told
    _, told = _deps("debian=", nothing, "RPMBUILD=rpmbuild --without tests")
    assert "python3-docutils" in told
    assert "python3-pytest" not in told


def test_what_is_in_each(product_rpms: list[Path]) -> None:
    for name, wanted in FILES.items():
        listed = _lines(_named(product_rpms, name), "--list")
        ours = {path for path in listed if not re.search(r"/(dist|site)-packages/", path)}
        ours = {path for path in ours if not path.startswith(("/usr/share/doc", "/usr/share/lic"))}
        assert ours == wanted
        assert any(path.endswith("/LICENSE") for path in listed)
    modules = {
        path.relative_to(CHECKOUT / "rollback").as_posix()
        for path in (CHECKOUT / "rollback").rglob("*.py")
    }
    listed = _lines(_named(product_rpms, _COMMAND), "--list")
    wing = {name for name in modules if name.startswith("fs_rollback/convert/")}
    assert _modules(listed) == modules - wing
    assert not any("/fs_rollback/convert" in path for path in listed), "nor an empty directory"
    assert _modules(_lines(_named(product_rpms, _CONVERT), "--list")) == wing
    documents = {path for path in listed if path.startswith("/usr/share/doc/")}
    for name in ("README.md", "CHANGELOG.md", "kickstart/fs-rollback.ks"):
        assert any(path.endswith(name) for path in documents), name


def _modules(listed: set[str]) -> set[str]:
    return {path.partition("-packages/")[2] for path in listed if path.endswith(".py")}


def test_compiled_once_for_the_place_where_it_lies(product_rpms: list[Path]) -> None:
    for name in FILES:
        listed = _lines(_named(product_rpms, name), "--list")
        for path in listed:
            # Those of the collection are for the Pythons of other machines.
            if path.endswith(".py") and not path.startswith(_COLLECTIONS):
                directory, _, module = path[: -len(".py")].rpartition("/")
                compiled = f"{directory}/__pycache__/{module}."
                assert any(other.startswith(compiled) for other in listed), path


def test_what_each_asks_for(product_rpms: list[Path]) -> None:
    for name, wanted in REQUIRES.items():
        rpm = _named(product_rpms, name)
        asked = _lines(rpm, "--requires")
        # What rpm itself has to understand, and the package's own configuration file.
        asked = {line for line in asked if not line.startswith(("rpmlib(", "config("))}
        python = {line for line in asked if line.startswith("python") and "(abi)" in line}
        # The interpreter that the files were compiled for.
        assert len(python) == (0 if name == _COLLECTION else 1)
        dist = {line for line in asked if re.match(r"python3\.\d+dist\(", line)}
        assert {re.sub(r"^.*\((.*)\)$", r"\1", line) for line in dist} == (
            {"tabulate"} if name == _COMMAND else set()
        )
        release = output("rpm", "--query", "--package", "--queryformat", "%{RELEASE}", rpm)
        assert {line.replace(f"-{release}", "-RELEASE") for line in asked - python - dist} == wanted
    recommended = {
        "python3-argcomplete",
        "python3-tqdm",
        # The plugin comes along for each dnf that is there, and for no other.
        f"({_DNF4} if python3-dnf)",
        f"({_DNF5} if dnf5)",
    }
    command = _named(product_rpms, _COMMAND)
    assert _lines(command, "--recommends") == recommended
    assert _lines(command, "--suggests") == {_CONVERT}, "no machine gets it unasked"
    for name in FILES:
        assert _lines(_named(product_rpms, name), "--obsoletes") == set()


def test_configuration_is_the_administrators(product_rpms: list[Path]) -> None:
    query = "[%{FILENAMES} %{FILEFLAGS:fflags}\n]"
    for name in FILES:
        flags = _lines(_named(product_rpms, name), "--queryformat", query)
        etc = {line for line in flags if line.startswith("/etc/") and not line.endswith(" ")}
        assert etc == {f"{path} cn" for path in CONFIGURATION[name]}, "config(noreplace)"


def test_the_command_starts_by_itself(unpacked: Path) -> None:
    """What pip wrote there is what the packages rely on: no environment, no user's packages."""
    text = (unpacked / "usr/bin/fs-rollback").read_text()
    assert text.startswith("#!/usr/bin/python3"), text.splitlines()[0]
    (library,) = unpacked.glob("usr/lib/python3*/*-packages")
    done = subprocess.run(
        ["/usr/bin/python3", str(unpacked / "usr/bin/fs-rollback"), "--version"],
        env={"PYTHONPATH": str(library)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == f"fs-rollback {__version__}\n"


def test_nothing_of_the_machine_that_built_it(unpacked: Path) -> None:
    for path in unpacked.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            for trace in (b"BUILDROOT", os.fsencode(CHECKOUT), b"/tmp/"):
                assert trace not in data, path


def test_rpmlint(product_rpms: list[Path]) -> None:
    need("rpmlint")
    command = ["rpmlint", "--config", "packaging/rpmlint.toml", "packaging/fs-rollback.spec"]
    done = subprocess.run(
        [*command, *map(str, product_rpms)],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert " 0 errors, 0 warnings" in done.stdout, done.stdout
    assert done.returncode == 0
