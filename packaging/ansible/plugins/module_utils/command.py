# SPDX-License-Identifier: GPL-2.0-or-later
# It may be used under the GNU General Public License v3.0+ too, as Ansible itself.
"""Runs fs-rollback on the machine, and turns its JSON answer into the result of a module."""

from __future__ import annotations

import json
import os
from typing import Any, NamedTuple, NoReturn, Optional

VERSION = 1  # of the answers: the key "version"
_PROGRAM = "fs-rollback"
_COMPLAINT = "fs-rollback: "
_NEVER_FOUND = (
    "fs-rollback is not installed on this machine: install the package fs-rollback, and"
    " libdnf5-plugin-fs-snapshot for dnf 5 or python3-dnf-plugin-fs-snapshot for dnf 4"
)
# What each exit code says about the machine, as one word for conditions.
MEANINGS = {
    1: "failed",
    2: "usage",
    3: "refused",
    4: "needs_hands",
    130: "interrupted",
}
_HINTS = {
    4: "A step failed, and undoing it failed too: do on the machine what was printed, then run"
    " 'fs-rollback settle'.",
}


class Answer(NamedTuple):
    """How the command ended: exit code, the object that it printed, and its complaint.

    `data` is None where it printed none; of `diff` it is all lines, by their kind. `sentence` says
    what was wrong, `hint` what to do, each "" for nothing.
    """

    code: int
    data: Optional[dict[str, Any]]
    sentence: str
    hint: str

    @property
    def meaning(self) -> str:
        """Return what the exit code says about the machine, in one word."""
        return MEANINGS.get(self.code, "failed")


class Command:
    """The command on this machine. If it cannot be used, the module fails with a clear message."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self._program = module.get_bin_path(_PROGRAM, opt_dirs=["/usr/sbin", "/usr/local/bin"])
        if self._program is None:
            module.fail_json(msg=_NEVER_FOUND, outcome="not_installed")
        if os.geteuid() != 0:
            module.fail_json(msg="this must be run as root: set 'become: true'", outcome="usage")

    def run(self, *words: str) -> Answer:
        """Run the command with `--json`, and return how it ended."""
        command = [self._program, *words, "--json"]
        environment = {"LC_ALL": "C.UTF-8", "NO_COLOR": "1"}
        code, out, err = self.module.run_command(command, environ_update=environment)
        sentence, hint = complaint(err)
        return Answer(code, self._parsed(words, out), sentence, hint)

    def read(self, *words: str) -> dict[str, Any]:
        """Run a reading command, and return its answer; exit codes 1 and 3 have an answer too."""
        answer = self.run(*words)
        if answer.data is None:
            self.fail(answer)
        return answer.data

    def change(self, *words: str) -> dict[str, Any]:
        """Run a changing command, which must succeed, and return its answer."""
        answer = self.run(*words)
        if answer.code or answer.data is None:
            self.fail(answer)
        return answer.data

    def fail(self, answer: Answer, **more: Any) -> NoReturn:
        """End the module with what the command said."""
        message = answer.sentence or f"fs-rollback ended with exit code {answer.code}"
        hint = answer.hint or _HINTS.get(answer.code, "")
        found = {"exit_code": answer.code, "outcome": answer.meaning, "hint": hint, **more}
        # After exit code 4 nobody knows what is done and what is not.
        found.setdefault("changed", answer.code == 4)
        if answer.data is not None:
            found["answer"] = answer.data
        self.module.fail_json(msg=f"{message}. {hint}".rstrip(". "), **found)
        raise AssertionError("fail_json ends the module")

    def _parsed(self, words: tuple[str, ...], out: str) -> Optional[dict[str, Any]]:
        if not out.strip():
            return None
        try:
            texts = out.splitlines() if words[0] == "diff" else [out]
            rows = [json.loads(text) for text in texts]
            versions = [row["version"] for row in rows if "version" in row]
            newest = max(versions)
        except (ValueError, TypeError) as error:
            self.module.fail_json(
                msg=f"'fs-rollback {words[0]}' printed no JSON: {error}", outcome="unreadable"
            )
        if newest > VERSION:
            self.module.fail_json(
                msg=f"fs-rollback on this machine uses version {newest} of its JSON, but this"
                f" collection supports only {VERSION}: upgrade fs_rollback.snapshots",
                outcome="unreadable",
            )
        return of_lines(rows) if words[0] == "diff" else rows[0]


def complaint(err: str) -> tuple[str, str]:
    """Return the last thing that the command said on standard error, and what to do about it.

    Before that it may have said what it waits for. Only the form is looked at, which is the same
    for every error: the program's name, and lines that are indented.
    """
    lines = err.splitlines()
    starts = [number for number, line in enumerate(lines) if line.startswith(_COMPLAINT)]
    if not starts:
        return " ".join(err.split()), ""
    first, *rest = lines[starts[-1] :]
    hint = " ".join(line.strip() for line in rest if line.strip())
    return first[len(_COMPLAINT) :].rstrip(". "), hint


def of_lines(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the lines of `diff` by their kind; without `end` the answer is not whole."""
    found: dict[str, Any] = {"packages": [], "advisories": [], "files": [], "end": None}
    lists = {"package": "packages", "advisory": "advisories", "file": "files"}
    for row in rows:
        for key, value in row.items():
            if key in lists:
                found[lists[key]].append(value)
            elif key in ("sides", "end"):
                found[key] = value
    return found
