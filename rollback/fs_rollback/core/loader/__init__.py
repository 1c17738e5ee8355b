# SPDX-License-Identifier: GPL-2.0-or-later
"""What each boot loader makes of its entries: their order, the default, the next boot's."""
