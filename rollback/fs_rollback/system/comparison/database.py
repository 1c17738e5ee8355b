# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads the rpm database of a tree with SQLite: rpm itself would read every header.

The tables are in lib/backend/sqlite.c of rpm.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import lru_cache

from ...core.packages.changes import Item
from ...core.packages.header import Change, Header, HeaderError, PackageFile
from ...errors import Error
from ..linux import files, namespaces, process
from ..machine.rpmdb import rpmdb_path

_FILES = ("rpmdb.sqlite", "rpmdb.sqlite-wal")
_QUERY = "%{NAME}\\t%{ARCH}\\t%|EPOCH?{%{EPOCH}:}|%{VERSION}-%{RELEASE}\\n"
# A digest of each header; what has none (the keys that were imported) is small.
_HEADERS = """
SELECT hnum, key FROM Sha1header UNION ALL
SELECT hnum, blob FROM Packages WHERE hnum NOT IN (SELECT hnum FROM Sha1header)
"""
_NAMED = "SELECT blob FROM Packages WHERE hnum IN (SELECT hnum FROM Name WHERE key = ?)"
_HOLDS = "SELECT 1 FROM Dirnames WHERE key = ? LIMIT 1"
# Both indexes: a thousand packages have a file with this name, or a file in this directory.
_CANDIDATES = """
SELECT path, file.hnum, file.idx FROM wanted
JOIN Basenames AS file ON file.key = base
WHERE EXISTS (SELECT 1 FROM Dirnames WHERE key = directory AND hnum = file.hnum)
"""
# What is one directory in a tree today may have another name in a package: the merge of /usr, that
# of its bin and sbin, and /run.
_OTHER_NAMES = (
    ("/usr/bin/", ("/bin/", "/usr/sbin/", "/sbin/")),
    ("/usr/sbin/", ("/sbin/",)),
    ("/usr/lib/", ("/lib/",)),
    ("/usr/lib64/", ("/lib64/",)),
    ("/run/", ("/var/run/",)),
)


class DatabaseError(Error):
    """An rpm database cannot be read, or is of another kind than SQLite."""


class Database:
    """The rpm database of a tree (an open directory), open to be read.

    It `is_empty` where the tree has none: then there are no packages.
    """

    def __init__(self, tree: int, connection: sqlite3.Connection, *, is_empty: bool) -> None:
        self.tree = tree
        self.is_empty = is_empty
        self._connection = connection

    def headers(self) -> dict[int, object]:
        """Return a key for each header number, equal for equal headers. Raises sqlite3.Error."""
        return {} if self.is_empty else dict(self._connection.execute(_HEADERS))

    def names(self, numbers: Iterable[int]) -> set[str]:
        """Return the names of packages. Raises sqlite3.Error."""
        wanted = set(numbers)
        if not wanted:
            return set()
        rows = self._connection.execute("SELECT hnum, key FROM Name")
        return {name for number, name in rows if number in wanted}

    def changelog(self, name: str) -> list[Change]:
        """Return the changelogs of all packages of a name, one after another.

        Raises DatabaseError.
        """
        try:
            return [change for header in self.named(name) for change in header.changelog()]
        except (sqlite3.Error, HeaderError) as error:
            raise DatabaseError(f"cannot read the changelog of {name}: {error}") from error

    def named(self, name: str) -> list[Header]:
        """Return the headers of all packages of a name. Raises sqlite3.Error, HeaderError."""
        rows = () if self.is_empty else self._connection.execute(_NAMED, (name,))
        return [Header(blob) for (blob,) in rows]

    def owners(self, paths: Iterable[str]) -> dict[str, PackageFile]:
        """Return the packages' files at these absolute paths; paths of no package are left out.

        Raises DatabaseError.
        """
        found: dict[str, PackageFile] = {}
        if self.is_empty:
            return found
        try:
            # Much that is of no package is in directories in which no package has anything.
            holds = lru_cache(maxsize=None)(self._holds)
            named = [row for row in _as_named(paths) if holds(row[1])]
            self._connection.execute("DROP TABLE IF EXISTS temp.wanted")
            self._connection.execute("CREATE TEMP TABLE wanted (path, directory, base)")
            self._connection.executemany("INSERT INTO wanted VALUES (?, ?, ?)", named)
            rows = self._connection.execute(_CANDIDATES).fetchall()
            headers: dict[int, Header] = {}
            for path, number, index in rows:
                if number not in headers:
                    select = "SELECT blob FROM Packages WHERE hnum = ?"
                    (blob,) = self._connection.execute(select, (number,)).fetchone()
                    headers[number] = Header(blob)
                file = headers[number].file(index)
                if file is not None and file.path in _names_of(path):
                    found[path] = file
        except (sqlite3.Error, HeaderError) as error:
            raise DatabaseError(f"cannot read the rpm database: {error}") from error
        return found

    def _holds(self, directory: str) -> bool:
        """Whether packages have something in a directory, by the name they have for it."""
        return self._connection.execute(_HOLDS, (directory,)).fetchone() is not None


def _as_named(paths: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    for path in paths:
        # No package has a name that is no UTF-8, and SQLite takes none.
        for name in _names_of(path) if _is_utf8(path) else ():
            directory, _, base = name.rpartition("/")
            yield path, directory + "/", base


def _is_utf8(path: str) -> bool:
    return path.isascii() or not any("\ud800" <= character <= "\udfff" for character in path)


def _names_of(path: str) -> tuple[str, ...]:
    if not path.startswith(("/usr/", "/run/")):
        return (path,)
    for directory, others in _OTHER_NAMES:
        if path.startswith(directory):
            return (path, *(other + path[len(directory) :] for other in others))
    return (path,)


@contextmanager
def opened(tree: int) -> Iterator[Database]:
    """Open the database of a tree (an open directory); an empty one where there is none.

    Raises KernelError.
    """
    place = rpmdb_path(tree)
    with ExitStack() as stack:
        connection = stack.enter_context(closing(_connected(tree, place, stack)))
        yield Database(tree, connection, is_empty=place is None)


def _connected(tree: int, place: str | None, stack: ExitStack) -> sqlite3.Connection:
    """Return a connection to what SQLite finds there; without tables where that is nothing.

    The file is read where it is, and nothing is written beside it. Only if its log has something,
    which SQLite would have to write back, it is a copy that is read.
    """
    name, log = (f"{place}/{file}" for file in _FILES)
    status, of_log = files.status_of(tree, name), files.status_of(tree, log)
    if place is None or status is None or not stat.S_ISREG(status.st_mode):
        return sqlite3.connect(":memory:")
    if of_log is not None and of_log.st_size:
        copy = stack.enter_context(_copied(tree, place, _FILES))
        return sqlite3.connect(os.path.join(copy, _FILES[0]))

    def connect() -> sqlite3.Connection:
        uri = f"file:/{name}?immutable=1"
        found = sqlite3.connect(uri, uri=True, check_same_thread=False)
        found.execute("PRAGMA schema_version")  # opens the file, by its path, once and for all
        return found

    try:
        return namespaces.rooted(tree, connect)
    except sqlite3.Error:  # another kind of file, as whoever asks will find out
        return sqlite3.connect(":memory:")


@contextmanager
def _copied(tree: int, place: str, names: Sequence[str]) -> Iterator[str]:
    """Give a directory with copies of these files, in memory if there is room: a disk is full."""
    import shutil
    import tempfile

    found = (files.status_of(tree, f"{place}/{name}") for name in names)
    wanted = sum(status.st_size for status in found if status is not None)
    has_room = os.access("/run", os.W_OK) and shutil.disk_usage("/run").free > 2 * wanted
    where = "/run" if has_room else None
    with tempfile.TemporaryDirectory(prefix="fs-rollback-", dir=where) as copy:
        for name in names:
            if files.status_of(tree, f"{place}/{name}") is not None:
                files.copy_from_tree(tree, f"{place}/{name}", os.path.join(copy, name))
        yield copy


def differing_packages(one: Database, other: Database) -> tuple[set[Item], set[Item]]:
    """Return the packages whose versions differ between two databases.

    All versions of each are returned. Raises ProcessError.
    """
    try:
        first, second = one.headers(), other.headers()
        names = one.names(n for n in first if first[n] != second.get(n))
        names |= other.names(n for n in second if second[n] != first.get(n))
        return _items(one, names), _items(other, names)
    except (sqlite3.Error, HeaderError):  # another kind of database, or none that is whole
        return installed(one.tree), installed(other.tree)


def _items(database: Database, names: Iterable[str]) -> set[Item]:
    return {header.item() for name in names for header in database.named(name)}


def installed(tree: int) -> set[Item]:
    """Return all packages of a tree (an open directory) from rpm. Raises ProcessError."""
    place = rpmdb_path(tree)
    if place is None:
        return set()
    with _copied(tree, place, files.list_in_tree(tree, place) or []) as copy:
        arguments = ("rpm", "--dbpath", copy, "--query", "--all", "--queryformat", _QUERY)
        lines = process.run(arguments).splitlines()
    rows = (line.split("\t") for line in lines)
    return {Item("", *row) for row in rows if len(row) == 3}
