# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether an ext4 root can be converted: what its kernels and their initramfs files have."""

from __future__ import annotations

from collections.abc import Iterator

from ...core.boot.findings import Finding, Grade, fatal, ok, warning
from ..plan.facts import Facts, Initramfs


def kernels(facts: Facts) -> Iterator[Finding]:
    """Give a point for each kernel: whether it has btrfs."""
    able = [kernel for kernel in facts.kernels if kernel.has_btrfs]
    if not able:
        versions = ", ".join(kernel.version for kernel in facts.kernels) or "none found"
        yield fatal(
            "kernels.none",
            "",
            f"no kernel has btrfs: {versions}",
            "The kernels of RHEL and CentOS, and of AlmaLinux before 10.1, have no btrfs; Oracle's"
            " UEK has it.",
        )
    for kernel in facts.kernels:
        if kernel.has_btrfs:
            yield ok("kernels.ok", kernel.version, f"{kernel.version} has btrfs")
        elif able:
            yield Finding(
                "kernels.no-btrfs",
                kernel.version,
                Grade.FATAL if kernel.is_default else Grade.WARNING,
                f"{kernel.version} has no btrfs and cannot start the converted root",
                f"Make {able[-1].version} the default entry."
                if kernel.is_default
                else "After the conversion do not choose it in the boot menu, or remove it.",
            )


def initramfs(facts: Facts) -> Iterator[Finding]:
    """Give a point for each initramfs, and for what makes one."""
    able = [kernel for kernel in facts.kernels if kernel.has_btrfs]
    is_any = any(kernel.images or kernel.is_built_in for kernel in able)
    for kernel in able:
        yield from map(_image, kernel.images)
        if not kernel.images and kernel.is_built_in:
            yield ok(
                "initramfs.not-needed",
                kernel.version,
                f"{kernel.version} needs no initramfs: btrfs is built in",
            )
        elif not kernel.images:
            yield Finding(
                "initramfs.none",
                kernel.version,
                Grade.FATAL if kernel.is_default or not is_any else Grade.WARNING,
                f"{kernel.version} has no initramfs, neither in its boot entry nor by name in"
                " /boot",
                "Make one with dracut(8) or update-initramfs(8) and name it in the boot entry, or"
                " remove this kernel.",
            )
    yield from map(_other_image, facts.other_images)
    yield from _shared(facts)
    if not facts.builder:
        yield warning(
            "initramfs.no-builder",
            "",
            "neither dracut nor initramfs-tools is installed to build one",
            "Run this on the machine itself, or add btrfs to each initramfs by hand.",
        )


def _image(image: Initramfs) -> Finding:
    if image.has_btrfs:
        return ok("initramfs.ok", image.path, f"{image.path} has btrfs")
    advice = "'fs-rollback convert prepare' rebuilds it."
    if image.has_btrfs is None:
        return warning("initramfs.unknown", image.path, _lack(image), advice)
    return warning("initramfs.no-btrfs", image.path, f"{_lack(image)} yet", advice)


def _lack(image: Initramfs) -> str:
    if image.has_btrfs is None:
        return f"cannot determine whether {image.path} has btrfs: {image.reason}"
    return f"{image.path} has no btrfs"


def _other_image(image: Initramfs) -> Finding:
    """Return the point of one that cannot be made anew: it is not known for which kernel."""
    if image.has_btrfs:
        return _image(image)
    if image.is_default and image.has_btrfs is False:
        return fatal(
            "initramfs.unknown-kernel",
            image.path,
            f"{image.path}, which the default entry uses, has no btrfs, and its kernel is unknown",
            "Make an entry of a normal kernel the default.",
        )
    return warning(
        "initramfs.unknown-kernel",
        image.path,
        f"{_lack(image)}, and its kernel is unknown",
        "After the conversion do not choose its boot entry, or rebuild it by hand.",
    )


def _shared(facts: Facts) -> Iterator[Finding]:
    """Give what would be made anew for several kernels: an initramfs is that of one."""
    users: dict[str, list[str]] = {}
    for kernel in facts.kernels:
        for image in kernel.images_to_make:
            users.setdefault(image.path, []).append(kernel.version)
    for path, versions in users.items():
        if len(versions) > 1:
            yield fatal(
                "initramfs.shared",
                path,
                f"{path} is shared by several kernels: {', '.join(versions)}",
                "Give each kernel its own initramfs with dracut(8), and name it in the kernel's"
                " boot entry.",
            )
