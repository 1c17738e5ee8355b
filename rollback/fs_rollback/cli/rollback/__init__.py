# SPDX-License-Identifier: GPL-2.0-or-later
"""The commands that change what boots next, and what two of them ask before they do."""
