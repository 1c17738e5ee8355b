# SPDX-License-Identifier: GPL-2.0-or-later
"""What a snapshot is: its record, its name, its age, and whether it stays."""
