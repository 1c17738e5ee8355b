# SPDX-License-Identifier: GPL-2.0-or-later
"""What the boot loader reads and was told, and how that is changed."""
