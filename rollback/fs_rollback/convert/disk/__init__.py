# SPDX-License-Identifier: GPL-2.0-or-later
"""The two filesystems as they lie on the disk, and the tools that change one to the other."""
