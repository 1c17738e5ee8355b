# SPDX-License-Identifier: GPL-2.0-or-later
"""What the plugins of package managers call around a transaction."""
