# SPDX-License-Identifier: GPL-2.0-or-later
"""A copy of the program as a package manager installs it: compiled, with its console script."""

from __future__ import annotations

import compileall
import shutil
import sys
from pathlib import Path

PYTHON = "/usr/bin/python3"
_SOURCE = Path(__file__).resolve().parents[2]

# What %py3_shebang_flags is: -s on EL 9 (Python 3.9), -sP on Fedora and EL 10 (3.12 and newer;
# -P came with 3.11). Neither ignores PYTHONPATH, and both run the site module.
FLAGS = "-sP" if sys.version_info >= (3, 11) else "-s"

# The script that pip, and so %pyproject_install, makes of an entry point.
_LAUNCHER = f"""\
#!{PYTHON} {FLAGS}
# -*- coding: utf-8 -*-
import re
import sys
from fs_rollback.cli.main import program
if __name__ == '__main__':
    sys.argv[0] = re.sub(r'(-script\\.pyw|\\.exe)?$', '', sys.argv[0])
    sys.exit(program())
"""


class Installation:
    """The command and the plugin, compiled, in a directory of their own.

    PYTHONPATH names it: an installed program lies in a directory that is searched anyway, so a
    start costs a little less there.
    """

    def __init__(self, directory: Path) -> None:
        self.command = str(directory / "fs-rollback")
        packages = directory / "packages"
        ignore = shutil.ignore_patterns("__pycache__", "*.pyc")
        shutil.copytree(_SOURCE / "rollback/fs_rollback", packages / "fs_rollback", ignore=ignore)
        for module in (_SOURCE / "plugin/dnf4").glob("*.py"):
            shutil.copy(module, packages)
        assert compileall.compile_dir(packages, quiet=1), "the program does not compile"
        Path(self.command).write_text(_LAUNCHER, encoding="ascii")
        Path(self.command).chmod(0o755)
        self.environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "LC_ALL": "C.UTF-8",
            "PYTHONPATH": str(packages),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
