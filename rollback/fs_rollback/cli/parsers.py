# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads a command line, and says in one line, below the usage of the command, what is wrong."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from .terminal import columns

# What argparse has translated. Python brings no translations, and to look for them eight times
# takes as long as to make the parser.
vars(argparse)["_"] = lambda text: text

_HELP = ("-h", "--help")


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """With a width of its own: argparse makes one for each option and imports shutil to ask."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=columns() - 2)


class Parser(argparse.ArgumentParser):
    """Of the program, of a command, or of an action of one.

    Those below it have it as the default `parser`; `own` are the options of one that has some
    below.
    """

    own: Sequence[str] = _HELP

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=_Formatter, **options)
        # Python 3.14 colours by rules of its own: not on --color.
        self.color = False
        self.set_defaults(parser=self)

    def read(self, given: Sequence[str]) -> argparse.Namespace:
        """Read a command line, as parse_args() does."""
        self.refuse_early(given)
        args, left = self.parse_known_args(given)
        if left:
            args.parser.refuse(left[0])
        return args

    def refuse_early(self, given: Sequence[str]) -> None:
        """Complain of an option that stands before the command or the action that it is for."""
        below = self.below()
        word = given[0] if given else ""
        if below and word.startswith("-") and word not in self.own:
            known = {option for one in below.values() for option in one.options()}
            name = word.partition("=")[0]
            if name in known:
                what = "action" if self.own == _HELP else "command"
                self.error(f"put {name} after the {what}")
            self.refuse(word)
        elif word in below:
            below[word].refuse_early(given[1:])

    def below(self) -> dict[str, Parser]:
        """Return the parsers of what is named behind this one, by name."""
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - see options()
                return dict(action.choices)
        return {}

    def options(self) -> Iterable[str]:
        """Return the options of this one, in every way to write them."""
        # argparse has no public way to its actions.
        return self._option_string_actions

    def refuse(self, word: str) -> NoReturn:
        """Complain of a word that nothing here takes."""
        if not word.startswith("-"):
            self.error(f"unexpected argument {word!r}")
        name = word.partition("=")[0]
        self.error(f"unknown option {name!r}{_hint(name, [*self.options(), *self.below()])}")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        # argparse would list all choices, of which there are twenty commands.
        choices = [*(action.choices or ())]
        if not choices or value in choices:
            return
        if action.option_strings:
            what = f"{action.option_strings[-1]} cannot be {value!r}"
        else:
            what = f"there is no {str(action.metavar).lower()} {value!r}"
        others = [option for option in self.options() if option.startswith("--")]
        hint = _hint(value, [*choices, *([] if action.option_strings else others)])
        if not hint:
            some = ", ".join(choices)
            hint = f". Known: {some}" if len(choices) < 12 else f". '{self.prog} --help' lists all"
        raise argparse.ArgumentError(None, what + hint)

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and end with the exit code for that."""
        self.print_usage(sys.stderr)
        self.exit(2, f"{self.prog}: {message}\n")


def _hint(word: str, known: Iterable[str]) -> str:
    from ..core.closest import closest, question

    return (found := question(map(repr, closest(word, known)))) and f". {found}"
