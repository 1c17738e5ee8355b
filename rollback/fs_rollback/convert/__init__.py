# SPDX-License-Identifier: GPL-2.0-or-later
"""The wing that makes an ext4 root a btrfs one; nothing outside it imports it."""
