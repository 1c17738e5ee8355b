# SPDX-License-Identifier: GPL-2.0-or-later
"""The commands of the wing: convert check, prepare, run, finish, abort."""
