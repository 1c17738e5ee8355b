# SPDX-License-Identifier: GPL-2.0-or-later
"""What rpm's database says of a package: its header.

docs/manual/format_header.md of rpm: two numbers (of entries, of bytes of data), an index of entries
of four numbers (tag, type, offset, count), the data. All of it is big-endian.
"""

from __future__ import annotations

import struct
from typing import NamedTuple, Optional

from .changes import Item

# include/rpm/rpmtag.h
NAME, VERSION, RELEASE, EPOCH, ARCH = 1000, 1001, 1002, 1003, 1022
FILE_DIGESTS, FILE_FLAGS, FILE_DIGEST_ALGORITHM = 1035, 1037, 5011
DIR_INDEXES, BASE_NAMES, DIR_NAMES = 1116, 1117, 1118
CHANGELOG_TIME, CHANGELOG_NAME, CHANGELOG_TEXT = 1080, 1081, 1082
_IS_CONFIG = 1  # RPMFILE_CONFIG, include/rpm/rpmfiles.h
# RFC 9580 section 9.5, as hashlib names them; MD5 where a header does not tell.
_ALGORITHMS = {1: "md5", 2: "sha1", 8: "sha256", 9: "sha384", 10: "sha512"}
_NUMBERS = {3: "H", 4: "I", 5: "Q"}  # RPM_INT16_TYPE and so on
_STRINGS = (6, 8, 9)  # RPM_STRING_TYPE, RPM_STRING_ARRAY_TYPE, RPM_I18NSTRING_TYPE
_ENTRY = struct.Struct(">4I")


class PackageFile(NamedTuple):
    """A file as a package has it; `digest` is "" where it has none: a directory, a ghost.

    `algorithm` is what hashlib calls it.
    """

    path: str
    package: Item
    digest: str
    algorithm: str
    is_config: bool


class Change(NamedTuple):
    """An entry of a package's changelog, `time_s` in seconds since 1970."""

    time_s: int
    author: str
    text: str


class HeaderError(ValueError):
    """The data is not a header of rpm."""


class Header:
    """A package's header; tags that it does not have are empty."""

    def __init__(self, data: bytes) -> None:
        try:
            entries, length = struct.unpack_from(">2I", data)
            self._start = 8 + entries * _ENTRY.size
            if self._start + length > len(data):
                raise HeaderError(f"it announces {length} bytes of data, but has fewer")
            rows = (_ENTRY.unpack_from(data, 8 + n * _ENTRY.size) for n in range(entries))
            self._entries = {tag: (kind, offset, count) for tag, kind, offset, count in rows}
        except (struct.error, TypeError) as error:  # too short; no bytes at all
            raise HeaderError(str(error)) from error
        self._data = data
        self._texts: dict[int, list[str]] = {}

    def strings(self, tag: int) -> list[str]:
        """Return the texts of a tag. Raises HeaderError."""
        if tag not in self._texts:
            self._texts[tag] = self._read(tag)
        return self._texts[tag]

    def _read(self, tag: int) -> list[str]:
        kind, offset, count = self._entries.get(tag, (0, 0, 0))
        if kind not in _STRINGS:
            return []
        place, found = self._start + offset, list[str]()
        for _ in range(count):
            end = self._data.find(b"\0", place)
            if end < 0:
                raise HeaderError(f"the text of tag {tag} is not terminated")
            found.append(self._data[place:end].decode("utf-8", "surrogateescape"))
            place = end + 1
        return found

    def numbers(self, tag: int) -> tuple[int, ...]:
        """Return the numbers of a tag. Raises HeaderError."""
        kind, offset, count = self._entries.get(tag, (0, 0, 0))
        if kind not in _NUMBERS:
            return ()
        try:
            return struct.unpack_from(f">{count}{_NUMBERS[kind]}", self._data, self._start + offset)
        except struct.error as error:
            raise HeaderError(str(error)) from error

    def text(self, tag: int) -> Optional[str]:
        """Return the first text of a tag, None if it has none. Raises HeaderError."""
        return next(iter(self.strings(tag)), None)

    def item(self) -> Item:
        """Return the package as an item without an action. Raises HeaderError."""
        epoch = "".join(f"{number}:" for number in self.numbers(EPOCH))
        name, version, release = self.text(NAME), self.text(VERSION), self.text(RELEASE)
        if name is None or version is None or release is None:
            raise HeaderError("a package without a name or a version")
        # rpm's own query says so of what has none: the keys that were imported.
        return Item("", name, self.text(ARCH) or "(none)", f"{epoch}{version}-{release}")

    def file(self, index: int) -> Optional[PackageFile]:
        """Return the file with this number, None if there is none. Raises HeaderError."""
        names, places = self.strings(BASE_NAMES), self.numbers(DIR_INDEXES)
        directories = self.strings(DIR_NAMES)
        if index >= min(len(names), len(places)) or places[index] >= len(directories):
            return None
        digests, flags = self.strings(FILE_DIGESTS), self.numbers(FILE_FLAGS)
        algorithm = next(iter(self.numbers(FILE_DIGEST_ALGORITHM)), 1)
        return PackageFile(
            directories[places[index]] + names[index],
            self.item(),
            digests[index] if index < len(digests) else "",
            _ALGORITHMS.get(algorithm, ""),
            index < len(flags) and bool(flags[index] & _IS_CONFIG),
        )

    def changelog(self) -> list[Change]:
        """Return the entries of the changelog, the newest first as in the package.

        Raises HeaderError.
        """
        tags = self.numbers(CHANGELOG_TIME), *map(self.strings, (CHANGELOG_NAME, CHANGELOG_TEXT))
        return [Change(*fields) for fields in zip(*tags)]
