# SPDX-License-Identifier: GPL-2.0-or-later
"""Tab in the shells themselves: bash, zsh and fish with the files of the package.

Each shell is asked what it would offer for a line, on a real filesystem with real snapshots.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kernel.commands import done
from tests.kernel.machine import Machine
from tests.need import need
from tests.sandbox.product import CHECKOUT
from tests.terminal import Terminal

# Prints what bash would offer for the line in $LINE.
_BASH = """
. "$COMPLETION"
COMP_LINE=$LINE COMP_POINT=${#LINE} COMP_TYPE=9 COMP_WORDBREAKS=$' \\t\\n"\\'><=;|&(:'
read -ra COMP_WORDS <<<"$LINE"
case $LINE in *' ') COMP_WORDS+=('') ;; esac
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_python_argcomplete fs-rollback
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def environment(tmp_path: Path, unpacked: Path) -> dict[str, str]:
    """A small environment in which fs-rollback is the packaged command."""
    (library,) = unpacked.glob("usr/lib/python3*/*-packages")
    command = tmp_path / "bin/fs-rollback"
    command.parent.mkdir()
    command.write_text(
        f"#!/bin/sh\nPYTHONPATH={library} exec /usr/bin/python3 "
        f'{unpacked}/usr/bin/fs-rollback "$@"\n'
    )
    command.chmod(0o755)
    return {
        "PATH": f"{command.parent}:/usr/bin:/bin:/usr/sbin:/sbin",
        "HOME": str(tmp_path),
        "LC_ALL": "C.UTF-8",
        "TERM": "dumb",
    }


def _bash(line: str, unpacked: Path, environment: dict[str, str]) -> set[str]:
    completion = unpacked / "usr/share/bash-completion/completions/fs-rollback"
    extra = {"LINE": line, "COMPLETION": str(completion)}
    done = subprocess.run(
        ["bash", "--norc", "-c", _BASH],
        env={**environment, **extra}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return {word.strip() for word in done.stdout.split("\n") if word.strip()}


def _fish(line: str, unpacked: Path, environment: dict[str, str]) -> set[str]:
    need("fish")
    completion = unpacked / "usr/share/fish/vendor_completions.d/fs-rollback.fish"
    done = subprocess.run(
        ["fish", "--no-config", "-c", f"source {completion}; complete --do-complete '{line}'"],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return {word.split("\t")[0] for word in done.stdout.splitlines()}


# Ctrl-X twice has zsh say that it has done what was typed before.
_SETTINGS = """\
fpath=({functions} $fpath); autoload -Uz compinit; compinit -u -D
unsetopt ZLE_PROMPT_SP; LISTMAX=1000; PS1='ready> '; setopt NO_BEEP LIST_AMBIGUOUS
ended() {{ print 'zsh has ended' }}; zle -N ended; bindkey '^X^X' ended
"""


def _zsh(line: str, unpacked: Path, environment: dict[str, str]) -> set[str]:
    """Type the line and Tab on a terminal; zsh completes nowhere else."""
    need("zsh")
    settings = _SETTINGS.format(functions=unpacked / "usr/share/zsh/site-functions")
    (Path(environment["HOME"]) / ".zshrc").write_text(settings)
    terminal = Terminal(["zsh", "-d", "-i"], environment)
    terminal.type(f"{line}\t\t\x18\x18")
    terminal.read_until("zsh has ended")
    shown = terminal.text
    terminal.type("\x15exit\n")  # Ctrl-U takes the line away
    terminal.end()
    return set(re.findall(r"[\w./-]+", shown)) - set(line.split())


SHELLS = {"bash": _bash, "fish": _fish, "zsh": _zsh}


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> str:
    assert isinstance(request.param, str)
    return request.param


def test_commands_and_options(shell: str, unpacked: Path, environment: dict[str, str]) -> None:
    offered = SHELLS[shell]("fs-rollback ", unpacked, environment)
    assert {"status", "check", "list", "rollback", "undo", "settle"} <= offered
    offered = SHELLS[shell]("fs-rollback rollback --n", unpacked, environment)
    assert any(word.endswith("o-keep") for word in offered), "zsh shows what it adds"
    assert "--json" not in offered


def test_names_and_ids_of_snapshots(
    shell: str, named: Machine, unpacked: Path, environment: dict[str, str]
) -> None:
    named.take("first")
    named.take("second")
    taken = named.snapshots()
    wanted = {t.name for t in taken} | {str(t.id) for t in taken}
    for command in ("show", "rollback", "pin", "delete", "try"):
        line = f"fs-rollback {command} --root {named.root} "
        offered = SHELLS[shell](line, unpacked, environment)
        assert wanted | {"latest"} <= offered, command
        if shell == "zsh":
            break  # a terminal takes its time
    begun = SHELLS[shell](f"fs-rollback show --root {named.root} yum", unpacked, environment)
    assert not {str(t.id) for t in taken} & begun


def test_nothing_is_offered_and_nothing_said_where_nothing_is_known(
    shell: str, tmp_path: Path, unpacked: Path, environment: dict[str, str]
) -> None:
    for option in (f"--root {tmp_path}", "--device /dev/null", "--root /nowhere"):
        offered = SHELLS[shell](f"fs-rollback show {option} y", unpacked, environment)
        assert not any("yum" in word or "Error" in word or "raceback" in word for word in offered)


def test_a_line_that_is_being_typed_is_never_run(
    named: Machine, environment: dict[str, str]
) -> None:
    """With argcomplete and without it: the words would be a command if the mark were not seen."""
    name = named.take()
    words = ["fs-rollback", "delete", "--root", str(named.root), name]
    line = " ".join(words)
    marks = {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)), "COMP_TYPE": "9"}
    done = subprocess.run(words, env={**environment, **marks}, capture_output=True, check=False)
    assert done.returncode != 0, "there is no descriptor 8 here"
    without = (
        "import sys; sys.modules['argcomplete'] = None; from fs_rollback.cli.main import main;"
        "sys.exit(main())"
    )
    library = CHECKOUT / "rollback"
    done = subprocess.run(
        [sys.executable, "-c", without, *words[1:]],
        env={**environment, **marks, "PYTHONPATH": str(library)}, capture_output=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"")
    assert (named.top / "fs-snapshots" / name).is_dir()


def test_only_what_the_command_takes(
    named: Machine, unpacked: Path, environment: dict[str, str]
) -> None:
    names = [named.take("first"), named.take("second"), named.take("third")]
    first, second, third = names
    numbers = {taken.name: str(taken.id) for taken in named.snapshots()}
    Machine.write(named.root, "etc/later", "not in the snapshots\n")
    done(named.root, "pin", first)
    place = done(named.root, "mount", second).out.strip()

    def offered(words: str) -> set[str]:
        command, _, rest = words.partition(" ")
        return _bash(f"fs-rollback {command} --root {named.root} {rest}", unpacked, environment)

    assert offered("unpin ") == {first, numbers[first]}
    assert offered("pin ") == {second, third, numbers[second], numbers[third], "latest"}
    assert offered("delete ") == {third, numbers[third], "latest"}, "the others are in use"
    assert offered("umount ") == {second, place}
    assert offered("umount /") == {place}
    assert offered(f"diff {first} ") == {*names, *numbers.values(), "latest"}
    assert offered(f"restore {first} /et") == {"/etc/"}
    os.remove(named.root / "etc/app.conf")
    assert "/etc/app.conf" in offered(f"restore {first} /etc/"), "it is gone from the root alone"
    assert "/etc/later" not in offered(f"restore {first} /etc/")
    done(named.root, "umount")
    assert offered("umount ") == set()


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("help st", {"status"}),
        ("help guard ", {"on", "off", "status", "acknowledge"}),
        ("help convert f", {"finish"}),
        ("help list ", set()),
        ("help nosuch ", set()),
        ("guard o", {"on", "off"}),
        ("guard give", set()),
        ("list --color ", {"auto", "always", "never"}),
        ("convert check --color n", {"never"}),
    ],
)
def test_words_that_the_parser_knows(
    line: str, wanted: set[str], unpacked: Path, environment: dict[str, str]
) -> None:
    assert _bash(f"fs-rollback {line}", unpacked, environment) == wanted
