# SPDX-License-Identifier: GPL-2.0-or-later
# What we use of libbtrfsutil's Python binding, with the names that 6.2 to 7 all have.
from collections.abc import Iterator
from types import TracebackType
from typing import Generic, Literal, NamedTuple, Optional, TypeVar, Union, overload

class BtrfsUtilError(OSError):
    btrfsutilerror: int

class SubvolumeInfo(NamedTuple):
    id: int
    parent_id: int
    dir_id: int
    flags: int
    uuid: bytes
    parent_uuid: bytes
    received_uuid: bytes
    generation: int
    ctransid: int
    otransid: int
    stransid: int
    rtransid: int
    ctime: float
    otime: float
    stime: float
    rtime: float

Found = TypeVar("Found")

class SubvolumeIterator(Generic[Found]):
    @overload
    def __new__(
        cls, path: Union[str, int], top: int, info: Literal[True], post_order: bool = False
    ) -> SubvolumeIterator[SubvolumeInfo]: ...
    @overload
    def __new__(
        cls,
        path: Union[str, int],
        top: int = 0,
        info: Literal[False] = False,
        post_order: bool = False,
    ) -> SubvolumeIterator[int]: ...
    def __enter__(self) -> SubvolumeIterator[Found]: ...
    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None: ...
    def __iter__(self) -> Iterator[tuple[str, Found]]: ...
    def __next__(self) -> tuple[str, Found]: ...

def is_subvolume(path: Union[str, int]) -> bool: ...
def subvolume_id(path: Union[str, int]) -> int: ...
def subvolume_path(path: Union[str, int], id: int = 0) -> str: ...
def subvolume_info(path: Union[str, int], id: int = 0) -> SubvolumeInfo: ...
def get_subvolume_read_only(path: Union[str, int]) -> bool: ...
def set_subvolume_read_only(path: Union[str, int], read_only: bool = True) -> None: ...
def get_default_subvolume(path: Union[str, int]) -> int: ...
def set_default_subvolume(path: Union[str, int], id: int = 0) -> None: ...
def create_subvolume(path: str) -> None: ...
def create_snapshot(
    source: Union[str, int], path: str, recursive: bool = False, read_only: bool = False
) -> None: ...
def delete_subvolume(path: str, recursive: bool = False) -> None: ...
