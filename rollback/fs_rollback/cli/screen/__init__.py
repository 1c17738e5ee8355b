# SPDX-License-Identifier: GPL-2.0-or-later
"""What is printed: where to, in which colours, page by page."""
