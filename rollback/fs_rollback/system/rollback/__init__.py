# SPDX-License-Identifier: GPL-2.0-or-later
"""Plans, carries out and verifies a rollback, or refuses it."""
