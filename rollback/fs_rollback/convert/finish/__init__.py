# SPDX-License-Identifier: GPL-2.0-or-later
"""What comes after the first good boot from btrfs."""
