# SPDX-License-Identifier: GPL-2.0-or-later
"""A rollback as data: the plan, its steps, and the journal they are written to."""
