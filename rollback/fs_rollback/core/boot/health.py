# SPDX-License-Identifier: GPL-2.0-or-later
"""Grades what the kernel, btrfs-scrub(8) and smartctl(8) report about disks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import NamedTuple, Optional

from ..formats.scrub_status import Scrub
from . import findings
from .findings import Finding


class Errors(NamedTuple):
    """The errors that btrfs has counted on one device since its counters were reset.

    The counters survive reboots. Names and order are those of devinfo/ID/error_stats in sysfs,
    without "_errs".
    """

    write: int
    read: int
    flush: int
    corruption: int
    generation: int


_ERRORS_IN_WORDS = {
    "write": ("failed write", "failed writes"),
    "read": ("failed read", "failed reads"),
    "flush": ("failed cache flush", "failed cache flushes"),
    "corruption": ("corrupt block", "corrupt blocks"),
    "generation": ("outdated block (a lost write)", "outdated blocks (lost writes)"),
}


class Device(NamedTuple):
    """One device of a btrfs: `path` is "" for a missing one; `errors` None if not known."""

    id: int
    path: str
    is_missing: bool
    errors: Optional[Errors]


class Disk(NamedTuple):
    """A whole disk, and whether it is failing by SMART: None if unknown. `why` is the reason."""

    path: str
    is_failing: Optional[bool]
    why: str


# The bits of smartctl's exit status, EXIT STATUS in smartctl(8).
_DID_NOT_PARSE, _NOT_OPENED, _FAILING, _BELOW_THRESHOLD = 1, 2, 8, 16
# What smartctl is told to end with for a sleeping disk: no other reason sets both of these bits.
ASLEEP = _DID_NOT_PARSE | _NOT_OPENED
# The keys of smart_status.nvme in its JSON, which name the bits of the critical warning.
_OF_NVME = {
    "spare_below_threshold": "its spare blocks are nearly used up",
    "temperature_above_or_below_threshold": "it is too hot or too cold",
    "reliability_degraded": "it has become unreliable",
    "media_read_only": "it no longer accepts writes",
    "volatile_memory_backup_failed": "the backup of its memory has failed",
    "persistent_memory_region_unreliable": "its persistent memory has become unreliable",
}


def of_smartctl(path: str, status: int, answer: object) -> Disk:
    """Return what the exit status and the JSON object of 'smartctl --health' say of a disk."""
    smart = answer.get("smart_status") if isinstance(answer, dict) else None
    smart = smart if isinstance(smart, dict) else {}
    # The answer first: without one the lower bits tell why.
    if smart.get("passed") is False or status & (_FAILING | _BELOW_THRESHOLD):
        bits = smart.get("nvme")
        bits = bits if isinstance(bits, dict) else {}
        said = [text for key, text in _OF_NVME.items() if bits.get(key)]
        return Disk(path, True, ", ".join(said) or "its SMART health test failed")
    if smart.get("passed") is True:
        return Disk(path, False, "")
    if status == ASLEEP:
        return Disk(path, None, "it is in standby, and this check does not wake it")
    return Disk(path, None, _message(answer) or "it reports no SMART health status")


def _message(answer: object) -> str:
    """Return the first message of an error, "" if there is none, or the answer is none."""
    told = answer.get("smartctl") if isinstance(answer, dict) else None
    rows = told.get("messages") if isinstance(told, dict) else None
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, dict) and row.get("severity") == "error":
            return str(row.get("string", ""))
    return ""


def missing(devices: Sequence[Device]) -> int:
    """Return how many devices of the filesystem are missing."""
    return sum(device.is_missing for device in devices)


def error_words(errors: Errors) -> str:
    """Return what was counted, in words; "" if nothing was."""
    rows = ((count, *_ERRORS_IN_WORDS[kind]) for kind, count in errors._asdict().items())
    return ", ".join(f"{n} {one if n == 1 else many}" for n, one, many in rows if n)


def of_devices(devices: Sequence[Device], place: str) -> tuple[Finding, ...]:
    """Grade the error counters; `place` is where the filesystem is mounted."""
    found = []
    for device in devices:
        name = device.path or f"the missing device {device.id}"
        if device.errors is None:
            text = f"the error counters of {name} cannot be read"
            advice = f"Try 'btrfs device stats {place}'."
            found.append(findings.warning("devices.unknown", device.path, text, advice))
        elif said := error_words(device.errors):
            advice = (
                "The disk, its cable or the memory is faulty; 'dmesg' shows when the errors"
                f" occurred. 'btrfs scrub start -B {place}' reads all data and repairs what has a"
                f" second, good copy. Then reset the counters: btrfs device stats -z {place}"
            )
            text = f"btrfs has counted errors on {name}: {said}"
            found.append(findings.warning("devices.errors", device.path, text, advice))
    if not found and not missing(devices):
        count = f"all {len(devices)} devices are present" if len(devices) > 1 else "1 device"
        found.append(findings.ok("devices.ok", "", f"{count}, no errors counted"))
    return tuple(found)


def of_scrub(scrub: Optional[Scrub], place: str, now: datetime, *, is_running: bool) -> Finding:
    """Grade the last scrub, which reads and checks all data; `now` is an aware time.

    A scrub that was never done, or not finished, is no warning: scrubbing is optional.
    """
    if is_running:
        return findings.ok("scrub.running", "", f"running now; see 'btrfs scrub status {place}'")
    if scrub is None:
        text = f"no scrub is recorded; 'btrfs scrub start {place}' checks all data"
        return findings.ok("scrub.none", "", text)
    when = f"the last scrub began {_ago(scrub.began_s, now)}"
    if scrub.uncorrectable:
        return findings.warning(
            "scrub.errors",
            "",
            f"{when} and found damage that it could not repair:"
            f" {_counted(scrub.uncorrectable, 'error')}",
            "'dmesg' names the damaged files (path: ...). Restore them from a backup, or with 'dnf"
            f" reinstall' if a package has them. Then scrub again: btrfs scrub start -B {place}",
        )
    result = f", {_counted(scrub.corrected, 'error')} repaired" if scrub.corrected else ""
    if not scrub.is_finished:
        text = f"{when} and was {scrub.state}{result}; 'btrfs scrub resume {place}' continues it"
        return findings.ok("scrub.unfinished", "", text)
    return findings.ok("scrub.ok", "", f"{when}{result or ', no errors'}")


def unreadable_scrub(error: object) -> Finding:
    """Return the finding for a record of the last scrub that cannot be read."""
    text = f"cannot read the record of the last scrub: {error}"
    return findings.warning("scrub.unknown", "", text, "'btrfs scrub status' may say why.")


def of_disk(disk: Disk) -> Finding:
    """Grade a disk by SMART. Only a failing one is a warning: many disks report nothing."""
    if disk.is_failing:
        return findings.warning(
            "disk.failing",
            disk.path,
            f"the disk {disk.path} reports that it is failing (SMART): {disk.why}",
            "First copy your data to another disk, then replace this one (btrfs-replace(8))."
            f" 'smartctl --all {disk.path}' shows details.",
        )
    if disk.is_failing is False:
        return findings.ok("disk.ok", disk.path, f"{disk.path} reports no failure (SMART)")
    text = f"the health of {disk.path} is not known: {disk.why}"
    return findings.ok("disk.unknown", disk.path, text)


def trouble(found: Sequence[Finding]) -> tuple[str, ...]:
    """Return a sentence for each problem to mention before anything is written to these disks."""
    unknown = ("devices.unknown", "scrub.unknown")
    bad = (f for f in found if f.grade is not findings.Grade.OK and f.code not in unknown)
    return tuple(f"{finding.text}; 'fs-rollback check' says what to do" for finding in bad)


def _counted(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def _ago(moment_s: int, now: datetime) -> str:
    moment = datetime.fromtimestamp(moment_s, timezone.utc).astimezone(now.tzinfo)
    date = moment.strftime("%Y-%m-%d %H:%M")
    days = (now - moment).days
    if days < 0:
        return f"at {date}, which is in the future"
    return f"{_counted(days, 'day')} ago ({date})" if days else f"today ({date})"
