# SPDX-License-Identifier: GPL-2.0-or-later
"""A rollback that waits for its reboot, and the first boot of its new root."""
