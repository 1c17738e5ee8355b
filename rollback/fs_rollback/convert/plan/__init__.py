# SPDX-License-Identifier: GPL-2.0-or-later
"""A conversion as data: facts, edits, the plan, and how far it is."""
