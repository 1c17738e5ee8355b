# SPDX-License-Identifier: GPL-2.0-or-later
"""Uses a snapshot without a rollback: restore files, mount it, run a shell in it."""
