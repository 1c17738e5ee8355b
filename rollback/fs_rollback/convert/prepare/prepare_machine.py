# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes a machine ready for the conversion of its root, and takes that back."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import Callable, NamedTuple, Optional

from ...core.boot.conversion_state import DIRECTORY, NEW_FSTAB, STATE_FILE, Stage
from ...core.boot.entries import CONVERT
from ...core.formats import bls, cmdline
from ...core.loader.loaders import default_entry
from ...core.snapshots.record import format_time
from ...core.snapshots.snapshot import STORE
from ...errors import Error, KernelError, LockedError, RefusedError, UndoFailedError, kernel_errors
from ...system.execute import executor
from ...system.linux import files, syscalls
from ...system.linux.durable import write_file
from ...system.loader import entries, settings
from ...system.machine import usable
from ...system.store import trace
from ..machine import command_lines
from ..machine.machine import LAYOUT, Ext4Machine
from ..plan import edits, state
from ..plan.edits import conversion_entry
from ..plan.facts import Facts
from ..plan.plan import FSTAB, SHEET, Preparation
from ..plan.steps import BootOnce, MakeConverter, PreparingStep, RebuildImage, WriteFile
from ..torn import saved
from . import rescue_sheet
from .operations import Operations, refuse_outside

TITLE = "Convert the root to btrfs (fs-rollback), once"
# An image with btrfs is larger by its module and its tools; the one that converts has Python, too.
_GROWTH_BYTES = 16 << 20
_CONVERTER_BYTES = 96 << 20

Observer = Callable[[executor.Moment, int, PreparingStep], None]


class Proposal(NamedTuple):
    """A preparation that may be carried out, and the sheet for a rescue system.

    `not_chosen` is why the next boot is left to a person to choose, "" if it is not.
    """

    preparation: Preparation
    sheet: str
    not_chosen: str


def refuse_prepared(root: str) -> None:
    """Raise RefusedError where a preparation is there, whole or cut off."""
    before = state.read(root)
    if before is not None:
        whole = before.stage is not Stage.PREPARING
        raise RefusedError(
            "this machine is already prepared" if whole else "a preparation was interrupted",
            hint="Undo that with 'fs-rollback convert abort', then prepare again.",
        )


def refuse_read_only(machine: Ext4Machine) -> None:
    """Raise RefusedError where an ext4 can only be read, or is mounted so."""
    if machine.mount.fstype == "ext4" and (
        machine.mount.read_only or "ro" in machine.mount.options
    ):
        raise usable.read_only(machine)


def propose(machine: Ext4Machine, facts: Facts, *, at_next_boot: bool, now: datetime) -> Proposal:
    """Return the proposed preparation. `now` is aware. Changes nothing.

    Raises RefusedError, with the way out, if it is impossible.
    """
    refuse_prepared(machine.root)
    if not facts.builder:
        raise RefusedError(
            "neither dracut nor initramfs-tools is installed to build an initramfs with btrfs",
            hint="Install dracut.",
        )
    text = files.read_in_tree(machine.root_fd, FSTAB) or ""
    try:
        changed = edits.btrfs_fstab(text)
    except ValueError as error:
        raise RefusedError(f"/{FSTAB} cannot be changed: {error}", hint="Correct it.") from error
    steps: list[PreparingStep] = [
        # What fstab(5) says may be for root alone; the file that it becomes keeps its own mode.
        WriteFile(NEW_FSTAB, None, changed, "it becomes /etc/fstab when the root is btrfs", 0o600),
        _builder_file(machine, facts.builder),
        *command_lines.edited(machine),
        *_images(machine, facts),
    ]
    not_chosen = ""
    if at_next_boot:
        converter, not_chosen = _converter(machine, facts)
        steps += converter
    writing = [s for s in steps if isinstance(s, (WriteFile, RebuildImage, MakeConverter))]
    for step in steps:
        if isinstance(step, WriteFile) and step.before is not None:
            _refuse_link(machine, step.path)
    for path in (STATE_FILE, *(step.path for step in writing)):
        refuse_outside(machine, path)
    for path in (STORE, DIRECTORY):
        full = os.path.join(machine.root, path)
        if os.path.islink(full) or (os.path.exists(full) and not os.path.isdir(full)):
            raise RefusedError(
                f"/{path} is not a directory", hint="It must be a directory, not a link."
            )
    _refuse_little_room(machine, steps)
    preparation = Preparation(
        Stage.PREPARING, format_time(now), machine.device, machine.uuid, text, tuple(steps)
    )
    return Proposal(preparation, rescue_sheet.text(preparation, facts), not_chosen)


def _refuse_link(machine: Ext4Machine, path: str) -> None:
    """Raise RefusedError where a file that is changed is a link: it would become a file."""
    if os.path.islink(os.path.join(machine.root, path)):
        raise RefusedError(
            f"/{path} is a link to a file with options that only ext4 knows",
            hint="Remove rootfstype=ext4 and the options of ext4 from the file that it links to.",
        )


def _builder_file(machine: Ext4Machine, builder: str) -> WriteFile:
    path, text, mode = edits.DRACUT_CONF, edits.dracut_conf(), 0o644
    if builder != "dracut":
        path, text, mode = edits.INITRAMFS_TOOLS_HOOK, edits.initramfs_tools_hook(), 0o755
    before = files.read_in_tree(machine.root_fd, path)  # of another conversion
    return WriteFile(path, before, text, "each new initramfs has btrfs from now on", mode)


def _images(machine: Ext4Machine, facts: Facts) -> Iterator[RebuildImage]:
    for kernel in facts.kernels:
        for image in kernel.images_to_make:
            step = RebuildImage(kernel.version, image.path.lstrip("/"))
            if os.path.lexists(os.path.join(machine.root, step.kept)):
                raise RefusedError(
                    f"/{step.kept} already exists, but the old initramfs would be kept there",
                    hint="It is left over from an earlier conversion, or your own: move it away.",
                )
            yield step


def _converter(machine: Ext4Machine, facts: Facts) -> tuple[list[PreparingStep], str]:
    """Return the steps that give the boot menu an entry that converts and have it booted once.

    And why the latter is not among them, "" if it is.
    """
    if facts.builder != "dracut":
        raise RefusedError(
            "only dracut can build an initramfs that converts",
            hint="Convert from a rescue system: use 'fs-rollback convert prepare' without"
            " --at-next-boot.",
        )
    found = entries.read(machine, LAYOUT)
    default = found.default
    able = [kernel.version for kernel in facts.kernels if kernel.has_btrfs]
    if default is None or default.kernel not in able:
        raise RefusedError(
            "the default boot entry has no kernel with btrfs, or is unknown",
            hint="Convert from a rescue system: use 'fs-rollback convert prepare' without"
            " --at-next-boot.",
        )
    place = found.place_of(default)
    entry = default.entry
    inside = os.path.dirname(default.initramfs or entry.linux)
    directory = os.path.realpath(f"{os.path.realpath(place.base)}/{inside.lstrip('/')}")
    image = f"{os.path.relpath(directory, machine.root)}/{state.CONVERTER}"
    options = edits.for_conversion(entry.arguments)
    if not cmdline.root_arguments(options).root:
        raise RefusedError(
            f"the default boot entry has no root=, or only in an unknown variable: {entry.file}",
            hint=f"Write root=UUID={machine.uuid} into its options, or convert from a rescue"
            " system: use 'fs-rollback convert prepare' without --at-next-boot.",
        )
    values = {
        "title": TITLE,
        "options": f"{options} {CONVERT}{_name_at_boot(machine, options)}",
        "initrd": f"{inside.rstrip('/')}/{state.CONVERTER}",
        "sort-key": None,
        "grub_hotkey": None,
    }
    text = bls.rewrite(entry.text, values)
    name = conversion_entry([b.entry for b in found.bootables])
    made = bls.parse(f"{place.point}/loader/entries/{name}", text)
    if default_entry(found.choice, [*(b.entry for b in found.bootables), made]) == made:
        raise RefusedError(
            f"the boot entry that converts, {name}, would become the default",
            hint="Make the usual entry the default: 'grub2-set-default' or loader.conf(5).",
        )
    path = command_lines.entry_path(place, name)
    for ours in (image, path):
        if os.path.lexists(os.path.join(machine.root, ours)):
            raise RefusedError(
                f"/{ours} already exists",
                hint="It is left over from an earlier conversion: move it away.",
            )
    steps: list[PreparingStep] = [
        MakeConverter(default.kernel, image),
        WriteFile(path, None, text, "the boot entry that converts"),
    ]
    reason = settings.why_not_once(machine, found.places, found.choice, found.setting)
    return (steps, reason) if reason else ([*steps, BootOnce(name, TITLE)], "")


def _name_at_boot(machine: Ext4Machine, options: str) -> str:
    """Return the name of the root's device for the boot that converts.

    What root= says if it is a volume's: that is there even where a power cut left no filesystem.
    """
    root = cmdline.root_arguments(options).root
    return root if root.startswith("/dev/mapper/") else f"UUID={machine.uuid}"


def _refuse_little_room(machine: Ext4Machine, steps: Sequence[PreparingStep]) -> None:
    """Raise RefusedError if the images would not fit beside the old ones."""
    wanted: dict[int, int] = {}
    where: dict[int, str] = {}
    for step in steps:
        if isinstance(step, RebuildImage):
            size = os.stat(os.path.join(machine.root, step.path)).st_size + _GROWTH_BYTES
        elif isinstance(step, MakeConverter):
            size = _CONVERTER_BYTES
        else:
            continue
        directory = os.path.dirname(step.path)
        device = os.stat(os.path.join(machine.root, directory)).st_dev
        wanted[device] = wanted.get(device, 0) + size
        where[device] = directory
    for device, count in wanted.items():
        space = os.statvfs(os.path.join(machine.root, where[device]))
        if space.f_bavail * space.f_frsize < count:
            raise RefusedError(
                f"/{where[device]} has no room for {count >> 20} MiB: each old initramfs is kept"
                " beside the new one",
                hint="Remove old kernels: 'dnf remove --oldinstallonly'.",
            )


def carry_out(machine: Ext4Machine, proposal: Proposal, observe: Observer) -> str:
    """Carry out the preparation; on any failure undo it, then raise. Needs the lock.

    Returns why the next boot could not be set, "" if it was set or should not be. Raises
    UndoFailedError if the undo fails too, otherwise what the failing step raised.
    """
    operations = Operations(machine)
    preparation = proposal.preparation
    with executor.taken_back_on_failure(partial(take_back, machine, preparation)):
        _make_directory(machine.root)
        state.write(machine.root, preparation)
        for number, step in enumerate(preparation.steps):
            executor.apply_step(step, number, operations, observe)
        write_file(os.path.join(machine.root, SHEET), proposal.sheet, 0o600)
        state.write(machine.root, preparation.at(Stage.PREPARED))
    trace.tell(machine, trace.Event("conversion", reason="prepared"))
    return operations.not_chosen or proposal.not_chosen


def take_back(
    machine: Ext4Machine, preparation: Preparation, cause: Optional[BaseException] = None
) -> None:
    """Undo every step, the last first, and forget the preparation; may run again. Needs the lock.

    Raises UndoFailedError.
    """
    operations = Operations(machine)
    try:
        for step in reversed(preparation.steps):
            step.undo(operations)
        saved.wipe(machine.root)
        operations.remove_file(SHEET)
        with files.opened(machine.root) as tree, kernel_errors("sync", machine.root):
            syscalls.sync_filesystem(tree)
        remove_leftovers(machine)
    except Error as error:
        reason = f" after: {cause}" if cause is not None else ""
        raise UndoFailedError(
            f"undoing the preparation failed: {error}{reason}",
            commands=["fs-rollback convert abort   # continues where this stopped"],
        ) from error
    trace.tell(machine, trace.Event("conversion", reason="the preparation was undone"))


def remove_leftovers(machine: Ext4Machine) -> bool:
    """Remove where a preparation is kept, once nothing has to be taken back; whether it was there.

    Raises KernelError.
    """
    was_there = os.path.isdir(os.path.join(machine.root, DIRECTORY))
    Operations(machine).remove_file(STATE_FILE)
    for path in (DIRECTORY, STORE):
        _remove_if_empty(os.path.join(machine.root, path))
    return was_there


@contextmanager
def locked(machine: Ext4Machine) -> Iterator[None]:
    """Keep other processes from preparing this machine or undoing that. Raises LockedError."""
    if not syscalls.try_lock(machine.root_fd):
        raise LockedError(
            "another process is preparing this machine, or undoing a preparation",
            hint="Wait until it has finished, then try again.",
        )
    try:
        yield
    finally:
        syscalls.unlock(machine.root_fd)


def _make_directory(root: str) -> None:
    for path in (STORE, DIRECTORY):
        full = os.path.join(root, path)
        with kernel_errors("make", full):
            if not os.path.isdir(full):
                os.mkdir(full, 0o700)


def _remove_if_empty(path: str) -> None:
    try:
        os.rmdir(path)
    except OSError as error:  # absent, or not empty, is in order
        if os.path.isdir(path) and not os.listdir(path):
            raise KernelError("remove", path, error) from error
