# SPDX-License-Identifier: GPL-2.0-or-later
"""From ext4 to btrfs, done."""
