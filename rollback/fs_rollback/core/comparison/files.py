# SPDX-License-Identifier: GPL-2.0-or-later
"""Which files differ between two trees of one history, from the inodes that were touched in them.

The cost grows with what has changed, and with the listings of the directories it has changed in.
"""

from __future__ import annotations

import os
import stat
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from operator import itemgetter
from typing import NamedTuple, Optional, Protocol

from ..progress import Progress, told
from . import inodes
from .inodes import ROOT_INODE, Entry, Inode

# A place in either tree: the nearest directory above that is in both, and the path from there.
Place = tuple[int, bytes]

_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "link",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}
_SUBVOLUME = "subvolume"


class FileChange(NamedTuple):
    """What is different at a path, from the old tree to the new one.

    `action` is "added", "removed", "changed" or "renamed" (then `source` is the old path; what is
    inside a renamed directory is not listed again). `path` is the path in the new tree, or in the
    old one if it was removed. `what` says what differs if it is in both trees: "type", "content",
    "mode", "owner", "flags", "subvolume", or the name of an extended attribute.
    """

    path: str
    action: str
    kind: str
    what: tuple[str, ...] = ()
    source: str = ""


class Tree(Protocol):
    """A subvolume as it is read for a comparison."""

    def inode(self, number: int) -> Optional[Inode]:
        """Return an inode; None if there is none with this number, or it no longer has a name."""

    def listing(self, number: int) -> Iterable[bytes]:
        """Return the items of a directory's entries, for `inodes.entry`."""


# Whether two files of one size have the same bytes: the old one and its path, the new one and its.
SameContent = Callable[[Inode, str, Inode, str], bool]


def file_changes(
    old: Tree,
    new: Tree,
    touched: tuple[Collection[int], Collection[int]],
    parted: Optional[int],
    same_content: SameContent,
    progress: Progress,
) -> Iterator[FileChange]:
    """Give the differences between two trees, in the order of their paths.

    `touched` are the numbers of all inodes changed in each tree since the generation `parted`, the
    last one of their common history. If that is None, inodes are the same if their numbers and
    generations agree, and `touched` must be all inodes.
    """
    sides = _Sides(old, new, parted, touched)
    numbers = sides.touched
    alive = [number for number in told(numbers, 0, progress) if sides.is_alive(number)]
    lost, gained = _names(sides, alive)
    while sides.take_apart(lost, gained):
        alive = [number for number in alive if sides.is_alive(number)]
        lost, gained = _names(sides, alive)
    pairs = [*_kept(sides, alive, gained), *_paired(sides, lost, gained)]
    named = [(*sides.paths(pair), pair) for pair in pairs]
    ordered = sorted(named, key=itemgetter(0, 1))
    for path, source, pair in told(ordered, len(numbers), progress):
        change = _change(sides, pair, path, source, same_content)
        if change is not None:
            yield change


class _Pair(NamedTuple):
    """What was at a place, and what is at a place now; None where there is nothing."""

    before: Optional[tuple[Place, Entry]]
    after: Optional[tuple[Place, Entry]]


class _Sides:
    """Both trees, and what is one and the same in them."""

    def __init__(
        self,
        old: Tree,
        new: Tree,
        parted: Optional[int],
        touched: tuple[Collection[int], Collection[int]],
    ) -> None:
        self.old, self.new = old, new
        self._parted = parted
        in_old, in_new = map(frozenset, touched)
        self.touched, self._touched_in_both = in_old | in_new, in_old & in_new
        self._alive: dict[int, bool] = {}
        self._directories: dict[tuple[bool, int], bytes] = {}

    def is_alive(self, number: int) -> bool:
        """Whether an inode of the time when the trees had one history is in both.

        So is the directory that is a tree's own, also where one was received, or made anew.
        """
        known = self._alive.get(number)
        if known is None:
            old, new = self.old.inode(number), self.new.inode(number)
            known = self._alive[number] = number == ROOT_INODE or (
                old is not None
                and new is not None
                and old.generation == new.generation
                and (self._parted is None or old.generation <= self._parted)
                # Numbers may agree by chance where no history is known.
                and stat.S_IFMT(old.mode) == stat.S_IFMT(new.mode)
            )
        return known

    def have_same_entries(self, number: int) -> bool:
        """Whether a directory surely has the same entries in both, as where it was only read."""
        if number in self._touched_in_both:
            return False
        return inodes.have_same_entries(self.old.inode(number), self.new.inode(number))

    def moves_whole(self, entry: Entry) -> bool:
        """Whether what an entry leads to is in both trees, with others in it."""
        if entry.is_subvolume:
            return True
        inode = self.old.inode(entry.number) if self.is_alive(entry.number) else None
        return inode is not None and inode.is_directory

    def take_apart(self, lost: Mapping[Place, Entry], gained: Mapping[Place, Entry]) -> bool:
        """Let no directory count as in both trees that was moved away for a new one at its place.

        For people the new one is what that directory is now. Not so where it took the place of
        another one that has moved, as backups and logs do in turn. Returns whether there was one.
        """
        apart = [(e, place) for place, e in lost.items() if self._is_replaced(e, gained.get(place))]
        if apart:
            places = {entry: place for place, entry in gained.items()}
            others = {entry: lost.get(places[entry]) for entry, _ in apart if entry in places}
            in_turn = {e for e, o in others.items() if o and o in places and self.moves_whole(o)}
            apart = [(entry, place) for entry, place in apart if entry not in in_turn]
        for entry, (anchor, path) in apart:
            self._alive[entry.number] = False
            for name, below in map(inodes.entry, self.old.listing(entry.number)):
                place = anchor, path + b"/" + name
                if self._is_replaced(below, gained.get(place)):
                    apart.append((below, place))
        return bool(apart)

    def _is_replaced(self, entry: Entry, other: Optional[Entry]) -> bool:
        if other is None or entry.is_subvolume or other.is_subvolume or not self.moves_whole(entry):
            return False
        inode = self.new.inode(other.number)
        return inode is not None and inode.is_directory and not self.is_alive(other.number)

    def place(self, name: tuple[int, bytes]) -> Place:
        """Return the place of a name in the new tree."""
        directory, path = name
        while not self.is_alive(directory):
            inode = self.new.inode(directory)
            if inode is None:  # deleted meanwhile
                break
            directory, above = inode.names[0]
            path = above + b"/" + path
        return directory, path

    def paths(self, pair: _Pair) -> tuple[str, str]:
        """Return the path in the new tree (of what is not there, the old one), and the old one."""
        before = after = self._path(False, pair.before[0]) if pair.before else b""
        if pair.after:
            after = self._path(True, pair.after[0])
        path = os.fsdecode(after)
        return path, path if before == after else os.fsdecode(before)

    def _path(self, is_new: bool, place: Place) -> bytes:
        return self._directory(is_new, place[0]) + place[1] or b"/"

    def _directory(self, is_new: bool, number: int) -> bytes:
        """Return the path of a directory, with a "/" behind it."""
        known = self._directories.get((is_new, number))
        if known is not None:
            return known
        tree, chain = self.new if is_new else self.old, list[tuple[int, bytes]]()
        while number != ROOT_INODE and (is_new, number) not in self._directories:
            inode = tree.inode(number)
            if inode is None:  # deleted meanwhile
                break
            parent, name = inode.names[0]
            chain.append((number, name))
            number = parent
        path = self._directories.get((is_new, number), b"/")
        for number, name in reversed(chain):
            path += name + b"/"
            self._directories[is_new, number] = path
        return path


def _names(sides: _Sides, alive: Collection[int]) -> tuple[dict[Place, Entry], dict[Place, Entry]]:
    """Return the names that are in the old tree only, and those in the new tree only.

    Whatever lies in a directory that is not in both has such names.
    """
    lost: dict[Place, Entry] = {}
    gained: dict[Place, Entry] = {}
    for number in alive:
        inode = sides.new.inode(number)
        if inode is not None and inode.is_directory and not sides.have_same_entries(number):
            old, new = set(sides.old.listing(number)), set(sides.new.listing(number))
            lost.update(((number, n), e) for n, e in map(inodes.entry, old - new))
            gained.update(((number, n), e) for n, e in map(inodes.entry, new - old))
    for number in sides.touched:
        if sides.is_alive(number):
            continue
        # One number for two inodes, made in both trees since they parted.
        one, other = sides.old.inode(number), sides.new.inode(number)
        if one is not None and other is not None:
            twin = Entry(number, is_subvolume=False)
            lost.update((name, twin) for name in one.names if sides.is_alive(name[0]))
            gained.update((name, twin) for name in other.names if sides.is_alive(name[0]))
    _go_down(sides, sides.old, lost)
    _go_down(sides, sides.new, gained)
    return lost, gained


def _go_down(sides: _Sides, tree: Tree, found: dict[Place, Entry]) -> None:
    """Add what lies in directories that are in this tree only."""
    left = list(found.items())
    while left:
        (anchor, path), above = left.pop()
        inode = None if above.is_subvolume else tree.inode(above.number)
        if inode is None or not inode.is_directory or sides.is_alive(above.number):
            continue
        entries = map(inodes.entry, tree.listing(above.number))
        below = {(anchor, path + b"/" + name): e for name, e in entries}
        found.update(below)
        left += below.items()


def _kept(sides: _Sides, alive: Collection[int], gained: Mapping[Place, Entry]) -> Iterator[_Pair]:
    """Give the touched inodes that are in both trees, by each of the names they have kept."""
    for number in alive:
        same = Entry(number, is_subvolume=False)
        inode = sides.new.inode(number)
        names = inode.names if inode is not None else ()
        for name in names if number != ROOT_INODE else ((ROOT_INODE, b""),):
            place = sides.place(name)
            if place not in gained:
                kept = (place, same)
                yield _Pair(kept, kept)


def _paired(sides: _Sides, lost: dict[Place, Entry], gained: dict[Place, Entry]) -> Iterator[_Pair]:
    """Give what was renamed, replaced, removed and added.

    A directory that is in both trees takes along what is in it: it was renamed, whatever else that
    is in both is at one of its places. Of files another one at the same place is a change, as for
    people.
    """
    moved = {e: place for place, e in lost.items() if sides.moves_whole(e)}
    for after, entry in list(gained.items()):
        if entry in moved:
            before = moved[entry]
            yield _Pair((before, lost.pop(before)), (after, gained.pop(after)))
    for place in list(lost.keys() & gained.keys()):
        yield _Pair((place, lost.pop(place)), (place, gained.pop(place)))
    left: defaultdict[Entry, list[Place]] = defaultdict(list)
    for place, entry in sorted(lost.items(), reverse=True):
        if sides.is_alive(entry.number):
            left[entry].append(place)
    for after, entry in sorted(gained.items()):
        if left.get(entry):
            before = left[entry].pop()
            yield _Pair((before, lost.pop(before)), (after, gained.pop(after)))
    yield from (_Pair(item, None) for item in lost.items())
    yield from (_Pair(None, item) for item in gained.items())


def _change(
    sides: _Sides, pair: _Pair, path: str, source: str, same_content: SameContent
) -> Optional[FileChange]:
    if pair.before is None or pair.after is None:
        side, tree = (pair.after, sides.new) if pair.after else (pair.before, sides.old)
        assert side is not None, "a pair has something on one side"
        kind = _kind(tree, side[1])
        return FileChange(path, "added" if pair.after else "removed", kind) if kind else None
    before, after = pair.before[1], pair.after[1]
    what = _differences(sides, before, source, after, path, same_content)
    kind = _kind(sides.new, after)
    if not kind:  # deleted meanwhile
        return None
    if pair.before[0] != pair.after[0]:
        return FileChange(path, "renamed", kind, what, source)
    return FileChange(path, "changed", kind, what) if what else None


def _kind(tree: Tree, entry: Entry) -> str:
    """Return what an entry leads to, "" if it is not there any more."""
    if entry.is_subvolume:
        return _SUBVOLUME
    inode = tree.inode(entry.number)
    return _KINDS[stat.S_IFMT(inode.mode)] if inode is not None else ""


def _differences(
    sides: _Sides,
    before: Entry,
    source: str,
    after: Entry,
    path: str,
    same_content: SameContent,
) -> tuple[str, ...]:
    if before.is_subvolume and after.is_subvolume:
        return () if before == after else (_SUBVOLUME,)
    if before.is_subvolume or after.is_subvolume:
        return ("type",)
    old, new = sides.old.inode(before.number), sides.new.inode(after.number)
    if old is None or new is None:
        return ()
    if stat.S_IFMT(old.mode) != stat.S_IFMT(new.mode):
        return ("type",)
    found = []
    if not new.is_directory and _has_other_content(old, source, new, path, same_content):
        found.append("content")
    if old.mode != new.mode:
        found.append("mode")
    if (old.uid, old.gid) != (new.uid, new.gid):
        found.append("owner")
    if old.flags != new.flags:
        found.append("flags")
    if old.xattrs != new.xattrs:
        names = old.xattrs.keys() | new.xattrs.keys()
        found += sorted(os.fsdecode(n) for n in names if old.xattrs.get(n) != new.xattrs.get(n))
    return tuple(found)


def _has_other_content(
    old: Inode, source: str, new: Inode, path: str, same_content: SameContent
) -> bool:
    if (old.size, old.device) != (new.size, new.device):
        return True
    if old.extents == new.extents:
        return False
    if not stat.S_ISREG(new.mode) or inodes.surely_differ(old, new):
        return True
    return not same_content(old, source, new, path)
