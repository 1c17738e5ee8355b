# SPDX-License-Identifier: GPL-2.0-or-later
"""How each boot loader orders its entries, and chooses the default and the next one."""
