# SPDX-License-Identifier: GPL-2.0-or-later
"""The edge to the kernel: system calls, btrfs, files, processes, block devices."""
