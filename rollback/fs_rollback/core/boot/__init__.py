# SPDX-License-Identifier: GPL-2.0-or-later
"""How a machine finds its root and its kernel at boot."""
