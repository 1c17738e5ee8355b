# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine whose root is ext4: its loader, command lines, initramfs files and contents."""
