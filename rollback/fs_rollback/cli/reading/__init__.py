# SPDX-License-Identifier: GPL-2.0-or-later
"""The commands that change nothing: status, check, list, show, log."""
