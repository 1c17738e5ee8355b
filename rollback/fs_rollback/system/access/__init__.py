# SPDX-License-Identifier: GPL-2.0-or-later
"""What a snapshot holds without a rollback: files brought back, a look at it, a shell in it."""
