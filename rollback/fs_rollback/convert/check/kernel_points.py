# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether an ext4 root can be converted: what its kernels and their initramfs files have."""

from __future__ import annotations

from collections.abc import Iterator

from ..plan.facts import Facts, Initramfs, Point, Verdict


def kernels(facts: Facts) -> Iterator[Point]:
    """Give a point for each kernel: whether it has btrfs."""
    name = "kernels"
    able = [kernel for kernel in facts.kernels if kernel.has_btrfs]
    if not able:
        versions = ", ".join(kernel.version for kernel in facts.kernels) or "none found"
        yield Point(
            name,
            Verdict.REFUSED,
            f"no kernel has btrfs: {versions}",
            "The kernels of RHEL, CentOS and of AlmaLinux before 10.1 have none; Oracle's UEK has.",
        )
    for kernel in facts.kernels:
        if kernel.has_btrfs:
            yield Point(name, Verdict.OK, f"{kernel.version} has btrfs")
        elif able:
            yield Point(
                name,
                Verdict.REFUSED if kernel.is_default else Verdict.WARNING,
                f"{kernel.version} has no btrfs and cannot start the converted root",
                f"Make {able[-1].version} the default entry."
                if kernel.is_default
                else "Do not choose it in the menu afterwards, or remove it.",
            )


def initramfs(facts: Facts) -> Iterator[Point]:
    """Give a point for each initramfs, and for what makes one."""
    name = "initramfs"
    able = [kernel for kernel in facts.kernels if kernel.has_btrfs]
    is_any = any(kernel.images or kernel.is_built_in for kernel in able)
    for kernel in able:
        yield from map(_image, kernel.images)
        if not kernel.images and kernel.is_built_in:
            yield Point(name, Verdict.OK, f"{kernel.version} needs none: btrfs is built in")
        elif not kernel.images:
            yield Point(
                name,
                Verdict.REFUSED if kernel.is_default or not is_any else Verdict.WARNING,
                f"{kernel.version} has none, neither in its boot entry nor by name in /boot",
                "Make one with dracut(8) or update-initramfs(8) and name it in the boot entry, or"
                " remove this kernel.",
            )
    yield from map(_other_image, facts.other_images)
    yield from _shared(facts)
    if not facts.builder:
        yield Point(
            name,
            Verdict.WARNING,
            "neither dracut nor initramfs-tools is here to make one",
            "Run this on the machine itself, or see to btrfs in each initramfs by hand.",
        )


def _image(image: Initramfs) -> Point:
    name = "initramfs"
    if image.has_btrfs:
        return Point(name, Verdict.OK, f"{image.path} has btrfs")
    text = _lack(image) + (" yet" if image.has_btrfs is False else "")
    advice = "'fs-rollback convert prepare' makes it anew."
    return Point(name, Verdict.WARNING, text, advice, image.path)


def _lack(image: Initramfs) -> str:
    if image.has_btrfs is None:
        return f"whether {image.path} has btrfs is unknown: {image.reason}"
    return f"{image.path} has no btrfs"


def _other_image(image: Initramfs) -> Point:
    """Return the point of one that cannot be made anew: it is not known for which kernel."""
    name = "initramfs"
    if image.has_btrfs:
        return _image(image)
    if image.is_default and image.has_btrfs is False:
        return Point(
            name,
            Verdict.REFUSED,
            f"{image.path}, that of the default entry, has no btrfs, and its kernel is not known",
            "Make the entry of a usual kernel the default.",
        )
    return Point(
        name,
        Verdict.WARNING,
        f"{_lack(image)}, and its kernel is not known",
        "Do not choose its entry in the menu afterwards, or make it anew by hand.",
    )


def _shared(facts: Facts) -> Iterator[Point]:
    """Give what would be made anew for several kernels: an initramfs is that of one."""
    users: dict[str, list[str]] = {}
    for kernel in facts.kernels:
        for image in kernel.images_to_make:
            users.setdefault(image.path, []).append(kernel.version)
    for path, versions in users.items():
        if len(versions) > 1:
            yield Point(
                "initramfs",
                Verdict.REFUSED,
                f"{path} is that of several kernels: {', '.join(versions)}",
                "Give each kernel one of its own, dracut(8), and name it in its boot entry.",
            )
