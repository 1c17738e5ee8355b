# SPDX-License-Identifier: GPL-2.0-or-later
"""How to make parts of a tree equal to those in another tree of the same history.

The cost grows with what has changed in either, and with the listings of the directories it has
changed in. What is in both trees and differs at most in its access time stays. A directory that is
in the parts of both stays too, or moves; a file whose only name is the same in both is updated in
place. Everything else is removed, and copied with all names that it has in the parts: so a file
that also has a name outside of them is not changed there.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from . import files, inodes
from .inodes import ROOT_INODE, Entry

# The numbers of the inodes that were touched in a tree, each with the directories that its names
# are in; with none where those are not known.
Touched = Mapping[int, Sequence[int]]
Name = tuple[int, bytes]  # the number of the directory, and the name in there

_MEANWHILE = b".fs-rollback-moved"


class Tree(files.Tree, Protocol):
    """A subvolume as it is read for this."""

    def read_runs(self, numbers: Iterable[int]) -> None:
        """Read inodes ahead, in less time than one by one."""


class Part(NamedTuple):
    """A path from the root of the trees, and the numbers of the inodes there; 0 for nothing."""

    path: str
    old: int
    new: int


class Edits(NamedTuple):
    """What to do to the old tree, in the order of the fields. Paths are from its root.

    First clear the flags that forbid changes on the directories `changeable`. Move those in
    `detached` out of the way. Remove what is at the paths `removed`, with its contents. Move the
    directories in `placed` back from there, or create them (""), parents first. Copy the files
    `copied` from the new tree, each with all these names. Give the files in `updated` the data and
    attributes of the new tree, those in `retouched` only the attributes. Then set the chattr(1)
    flags of the files in `flagged`, and all attributes of the directories in `settled`. The parts
    `whole` are left out: the trees do not tell how they differ.
    """

    changeable: tuple[str, ...] = ()
    detached: tuple[tuple[str, str], ...] = ()
    removed: tuple[str, ...] = ()
    placed: tuple[tuple[str, str], ...] = ()
    copied: tuple[tuple[str, ...], ...] = ()
    updated: tuple[str, ...] = ()
    retouched: tuple[str, ...] = ()
    flagged: tuple[str, ...] = ()
    settled: tuple[str, ...] = ()
    whole: tuple[str, ...] = ()

    @property
    def steps(self) -> int:
        """How many things there are to do, without the parts `whole`."""
        return sum(map(len, self)) - len(self.whole)


class History(NamedTuple):
    """What was changed in each of two trees since the last generation of their common history.

    That is `parted`. `holders` are the directories of the new tree in which subvolumes are nested.
    """

    parted: int
    touched: tuple[Touched, Touched]
    holders: frozenset[int]


def edits(trees: tuple[Tree, Tree], parts: Iterable[Part], history: History) -> Edits:
    """Return the edits that make `parts` of the first tree, the old one, equal to the second.

    Stand-ins of nested subvolumes that the new tree no longer has are removed; others are left out.
    """
    sides, roots, whole = _Sides(trees, history.parted, {}), dict[int, str](), []
    for part in parts:
        inode = sides.new.inode(part.new)
        if part.old != part.new or inode is None or not sides.is_alive(part.new):
            whole.append(part.path)
        elif inode.is_directory:
            roots[part.new] = part.path
        elif not sides.is_same(part.new):
            whole.append(part.path)
    found = _Changes(_Sides(trees, history.parted, roots), history).edits() if roots else Edits()
    return found._replace(whole=tuple(whole))


class _Side:
    """One of the trees, and what of it is in the parts. `roots` are the directories they are."""

    def __init__(self, tree: Tree, roots: Mapping[int, str]) -> None:
        self.inode = tree.inode
        self.listing = tree.listing
        self.read_runs = tree.read_runs
        self._roots = roots
        self._inside = dict.fromkeys(roots, True)

    def is_inside(self, directory: int) -> bool:
        """Whether a directory is a part or lies in one."""
        chain, number = list[int](), directory
        while number not in self._inside:
            chain.append(number)
            inode = self.inode(number) if number != ROOT_INODE else None
            if inode is None:
                self._inside[number] = False
                break
            number = inode.names[0][0]
        self._inside.update(dict.fromkeys(chain, self._inside[number]))
        return self._inside[directory]

    def names(self, number: int) -> tuple[Name, ...]:
        """Return the names that an inode has in the parts."""
        inode = self.inode(number)
        return tuple(n for n in inode.names if self.is_inside(n[0])) if inode is not None else ()

    def flags(self, number: int) -> int:
        """Return the flags of an inode, inodes.FLAGS; 0 if there is none."""
        inode = self.inode(number)
        return inode.flags if inode is not None else 0

    def touched_inside(self, touched: Touched) -> set[int]:
        """Return the numbers of what was touched and is a part, or has a name in one."""
        found = self._roots.keys() & touched.keys()
        for number, parents in touched.items():
            if any(map(self.is_inside, parents)) or (not parents and self.names(number)):
                found.add(number)
        return found

    def path(self, number: int, known: dict[int, str]) -> str:
        """Return the path of a directory in the parts.

        `known` are paths of directories, of the roots at least; those on the way are added.
        """
        chain = list[Name]()
        while number not in known:
            above, name = self.names(number)[0]
            chain.append((number, name))
            number = above
        path = known[number]
        for number, name in reversed(chain):
            path = known[number] = f"{path}/{os.fsdecode(name)}"
        return path

    def path_of(self, name: Name, known: dict[int, str]) -> str:
        """Return the path of a name in the parts; `known` as for `path`."""
        return f"{self.path(name[0], known)}/{os.fsdecode(name[1])}"


class _Sides:
    """Both trees, and what is one and the same in them."""

    def __init__(self, trees: tuple[Tree, Tree], parted: int, roots: Mapping[int, str]) -> None:
        self.old, self.new = (_Side(tree, roots) for tree in trees)
        self.roots = roots
        self._parted = parted

    def is_alive(self, number: int) -> bool:
        """Whether an inode of the time when the trees had one history is in both."""
        old, new = self.old.inode(number), self.new.inode(number)
        if old is None or new is None:
            return False
        return old.generation == new.generation <= self._parted

    def is_same(self, number: int) -> bool:
        """Whether an inode is in both trees, with all it has: only read, if it was touched."""
        new = self.new.inode(number)
        if new is None or not self.is_alive(number) or self.old.inode(number) != new:
            return False
        return all(self.is_alive(directory) for directory, _ in new.names)

    def has_other_data(self, number: int) -> bool:
        """Whether a file may have other bytes in the new tree."""
        old, new = self.old.inode(number), self.new.inode(number)
        return old is None or new is None or (old.size, old.extents) != (new.size, new.extents)

    def stays_file(self, number: int) -> bool:
        """Whether it is a regular file whose one name is the same in the parts of both trees."""
        old, new = self.old.inode(number), self.new.inode(number)
        if old is None or new is None or not stat.S_ISREG(new.mode) or not self.is_alive(number):
            return False
        return len(new.names) == 1 and old.names == new.names and self.stays(new.names[0][0])

    def stays(self, number: int) -> bool:
        """Whether it is a directory, and one that is in the parts of both trees."""
        new = self.new.inode(number)
        if new is None or not new.is_directory or not self.is_alive(number):
            return False
        return self.old.is_inside(number) and self.new.is_inside(number)


class _Changes:
    """What is different in the parts of two trees."""

    def __init__(self, sides: _Sides, history: History) -> None:
        self._sides, touched = sides, history.touched
        self._lost = set[Name]()  # in directories that stay
        self._copied, self._made, self._updated = set[int](), set[int](), set[int]()
        found = sides.old.touched_inside(touched[0]) | sides.new.touched_inside(touched[1])
        for side in (sides.old, sides.new):
            side.read_runs(found)
        changed = {number for number in found if not sides.is_same(number)}
        staying = {number for number in found if sides.stays(number)}
        # One number may be two inodes, made in both trees since they parted: under one name too.
        gained = [Entry(number, is_subvolume=False) for number in changed - staying]
        for number in staying:
            before, after = sides.old.inode(number), sides.new.inode(number)
            is_in_both = number in touched[0] and number in touched[1]
            if is_in_both or not inodes.have_same_entries(before, after):
                gained += self._listed(number)
        self._go_down(gained)
        for number in (changed - staying - self._updated) | self._copied | self._made:
            self._lost.update(n for n in sides.old.names(number) if sides.stays(n[0]))
        self._moved = {number for number in staying - sides.roots.keys() if self._moves(number)}
        self._lost.difference_update(*map(sides.old.names, self._moved))
        self._settled = (changed & staying) | self._made | self._moved
        self._settled.update(filter(sides.stays, history.holders))
        self._settled.update(directory for directory, _ in self._lost)
        for number in self._moved | self._made | self._copied:
            self._settled.update(directory for directory, _ in sides.new.names(number))
        for number in self._moved:
            self._settled.update(d for d, _ in sides.old.names(number) if sides.stays(d))

    def _listed(self, number: int) -> list[Entry]:
        """Note what is no longer in a directory, and return what is new in it."""
        old, new = (set(side.listing(number)) for side in (self._sides.old, self._sides.new))
        before, after = set(map(inodes.entry, old - new)), set(map(inodes.entry, new - old))
        self._lost.update((number, name) for name, _ in before - after)
        return [entry for _, entry in after - before]

    def _go_down(self, gained: list[Entry]) -> None:
        """Note what is new in the parts: files, and directories with all that is in them.

        Not what has moved in them, and what is in nested subvolumes. Of files that are there
        already, those to update.
        """
        new = self._sides.new
        while gained:
            number, is_subvolume = gained.pop()
            inode = None if is_subvolume else new.inode(number)
            if inode is None or number in self._made or not new.names(number):
                continue
            if self._sides.stays_file(number):
                self._updated.add(number)
            elif not inode.is_directory:
                self._copied.add(number)
            elif not self._sides.stays(number):
                self._made.add(number)
                gained += (entry for _, entry in map(inodes.entry, new.listing(number)))

    def _moves(self, number: int) -> bool:
        """Whether a directory that stays has another place."""
        before, after = self._sides.old.names(number), self._sides.new.names(number)
        return before != after or not self._sides.stays(after[0][0])

    def edits(self) -> Edits:
        """Return what to do."""
        old, new, roots = self._sides.old, self._sides.new, self._sides.roots
        detached = self._detached()
        # The paths of directories in the old tree, there without those that move, and in the new.
        before, left, after = dict(roots), {**detached, **roots}, dict(roots)
        moves = [(old.path(number, before), place) for number, place in detached.items()]
        placed = [(detached.get(n, ""), new.path(n, after)) for n in self._moved | self._made]
        files = self._copied | self._updated
        paths = {n: tuple(sorted(new.path_of(m, after) for m in new.names(n))) for n in files}
        data = {n for n in self._updated if self._sides.has_other_data(n)}
        return Edits(
            changeable=tuple(sorted(old.path(n, before) for n in self._changeable())),
            detached=tuple(sorted(moves, key=lambda move: -move[0].count("/"))),
            removed=tuple(sorted(old.path_of(name, left) for name in self._lost)),
            placed=tuple(sorted(placed, key=lambda move: move[1].count("/"))),
            copied=tuple(sorted(paths[n] for n in self._copied)),
            updated=tuple(sorted(paths[n][0] for n in data)),
            retouched=tuple(sorted(paths[n][0] for n in self._updated - data)),
            flagged=tuple(sorted(paths[n][0] for n in files if old.flags(n) | new.flags(n))),
            settled=tuple(sorted(new.path(number, after) for number in self._settled)),
        )

    def _detached(self) -> dict[int, str]:
        """Return a place of its own for each directory that moves, all in one of the parts."""
        if not self._moved:
            return {}
        root = min(self._sides.roots)
        self._settled.add(root)
        sides = self._sides.old, self._sides.new
        taken = {name for side in sides for name, _ in map(inodes.entry, side.listing(root))}
        name = _MEANWHILE
        while name in taken:
            name += b"~"
        place = f"{self._sides.roots[root]}/{os.fsdecode(name)}"
        return {number: f"{place}/{number}" for number in self._moved}

    def _changeable(self) -> Iterator[int]:
        """Give the directories of the old tree to change that are protected from that."""
        old = self._sides.old
        left = {directory for number in self._moved for directory, _ in old.names(number)}
        for number in self._settled | left:
            is_there = number in self._sides.roots or bool(old.names(number))
            if is_there and old.flags(number) & inodes.PROTECTED:
                yield number
