# SPDX-License-Identifier: GPL-2.0-or-later
"""The rescue sheet: this machine's own commands, for somebody in front of a rescue system."""

from __future__ import annotations

from ...core.boot.conversion_state import DIRECTORY
from ..plan.facts import Facts
from ..plan.plan import Preparation
from ..plan.steps import KEPT_SUFFIX, RebuildImage


def text(preparation: Preparation, facts: Facts) -> str:
    """Return the sheet; print it or copy it to another machine."""
    device, uuid = preparation.device, preparation.uuid
    opening = "\n".join(f"    {line}" for line in _opening(facts))
    kept = "\n".join(
        f"    /{step.kept}" for step in preparation.steps if isinstance(step, RebuildImage)
    )
    return _SHEET.format(
        device=device,
        uuid=uuid,
        stack=" on ".join(facts.stack) or device,
        opening=opening or "    (nothing: it is a plain partition)",
        kept=kept or "    (none was replaced)",
        suffix=KEPT_SUFFIX,
        directory=DIRECTORY,
        seen=f"UUID={uuid}",
    )


def _opening(facts: Facts) -> list[str]:
    """Return what makes the device visible in a rescue system, the lowest layer first."""
    lines = []
    for layer in reversed(facts.stack):
        kind, _, name = layer.partition(" ")
        if kind == "LUKS":
            below = facts.stack[facts.stack.index(layer) + 1 :]
            lines.append(f"cryptsetup open {below[0].split()[-1] if below else 'DEVICE'} {name}")
        elif kind == "LVM":
            lines.append("vgchange --activate y")
        elif kind == "md":
            lines.append("mdadm --assemble --scan")
    return list(dict.fromkeys(lines))


_SHEET = """\
RESCUE SHEET: the root of this machine is being converted from ext4 to btrfs

The root is {device} ({stack}), {seen}.
In a rescue system it may have another name: "blkid --uuid {uuid}" tells which.
Everything here is typed as root. The root must not be mounted.

1. Make it visible
{opening}

2. See what it is (DEV is its name there)
    blkid -p DEV
   TYPE="ext4": 4. TYPE="btrfs": 5. Nothing, "ambivalent", or no device has that UUID: 7.

3. To convert it from a rescue system that has fs-rollback-convert and btrfs-progs 6.9 or later
    fs-rollback convert run --device UUID={uuid}
   The same command goes on where a power cut stopped it.

   Without fs-rollback there (ELSEWHERE is another disk; the second and third dd fail on a device
   that is smaller than that):
    mount DEV /mnt
    rm -f /mnt/{directory}/beginning
    umount /mnt
    e2fsck -f DEV
    dd if=DEV of=ELSEWHERE/S0 bs=64K count=16
    dd if=DEV of=ELSEWHERE/S1 bs=64K skip=1024 count=1
    dd if=DEV of=ELSEWHERE/S2 bs=64K skip=4194304 count=1
    btrfs-convert --uuid copy --copy-label -O ^block-group-tree DEV
    btrfs check --readonly DEV
    mount -o subvolid=5 DEV /mnt
    cat /mnt/{directory}/fstab >/mnt/etc/fstab
    rm /mnt/{directory}/fstab
    umount /mnt

4. It says ext4
    e2fsck -f -n DEV
   Errors, after a conversion or a way back that was cut off: 7, and NO e2fsck that repairs before.
   None: the conversion had not begun, and the ext4 is what it was. Start the machine as ever. If
   it does not start, the initramfs files from before are kept:
{kept}

5. It says btrfs, and does not start or cannot be written to
    fs-rollback convert run --device UUID={uuid}
   or by hand: step 3 from "btrfs check" on.

6. Back to ext4, as it was at the conversion; what was written since is lost
    fs-rollback convert run --back --device UUID={uuid}
   or by hand: btrfs-convert -r DEV; e2fsck -f DEV
   If the power fails meanwhile: the same again before anything else, even if the machine starts.

7. It says neither, or the ext4 has errors
   The power went in the moment in which ext4 becomes btrfs. What is overwritten then was saved on
   the device itself, or by you in 3. Do NOT let e2fsck repair it: it would call whole what is not.
   With its name, as the UUID may be gone (with --back, if it was on the way back, or if btrfs-progs
   are too old there):
    fs-rollback convert run --device DEV
   or by hand, from what was saved in 3:
    dd if=ELSEWHERE/S2 of=DEV bs=64K seek=4194304 conv=notrunc,fsync
    dd if=ELSEWHERE/S1 of=DEV bs=64K seek=1024 conv=notrunc,fsync
    dd if=ELSEWHERE/S0 of=DEV bs=64K conv=notrunc,fsync
    e2fsck -f -n DEV
"""
