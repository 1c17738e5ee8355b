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
        opening=opening or "    (nothing to do: it is a plain partition)",
        kept=kept or "    (none: no initramfs was replaced)",
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
A rescue system may name it differently: "blkid --uuid {uuid}" shows the name there.
Run every command here as root. The root must not be mounted.

1. Open the device
{opening}

2. Find out what it is (DEV stands for its name in the rescue system)
    blkid -p DEV
   TYPE="ext4": go to 4. TYPE="btrfs": go to 5.
   No output, "ambivalent", or no device with that UUID: go to 7.

3. Convert it, in a rescue system that has fs-rollback-convert and btrfs-progs 6.9 or later
    fs-rollback convert run --device UUID={uuid}
   If the power fails, run the same command again: it continues.

   Without fs-rollback in the rescue system (ELSEWHERE is a directory on another disk; the second
   and third dd fail on a device that is smaller than what they read, which is all right):
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

4. It is ext4
    e2fsck -f -n DEV
   No errors: the conversion had not started, and the ext4 is unchanged. Start the machine as usual.
   Errors after an interrupted conversion or return to ext4: do NOT repair with e2fsck; go to 7.
   If the machine does not start: these copies of the old initramfs files were kept:
{kept}

5. It is btrfs, but does not start or cannot be written to
    fs-rollback convert run --device UUID={uuid}
   or by hand: the commands of step 3, from "btrfs check" on.

6. Return to ext4, as it was before the conversion; everything written since is lost
    fs-rollback convert run --back --device UUID={uuid}
   or by hand: btrfs-convert -r DEV; e2fsck -f DEV
   If the power fails meanwhile: run it again before anything else, even if the machine starts.

7. It is neither, or the ext4 has errors
   The power failed in the moment in which ext4 becomes btrfs. The blocks that are overwritten then
   were saved before: on the device itself, or by you in step 3. Do NOT let e2fsck repair the
   filesystem: it would accept damaged data as good.
   Use the device name, as the UUID may be gone. Add --back if you were returning to ext4, or if
   btrfs-progs there are too old:
    fs-rollback convert run --device DEV
   or by hand, from what you saved in step 3:
    dd if=ELSEWHERE/S2 of=DEV bs=64K seek=4194304 conv=notrunc,fsync
    dd if=ELSEWHERE/S1 of=DEV bs=64K seek=1024 conv=notrunc,fsync
    dd if=ELSEWHERE/S0 of=DEV bs=64K conv=notrunc,fsync
    e2fsck -f -n DEV
"""
