# SPDX-License-Identifier: GPL-2.0-or-later
"""Takes, shows in the boot menu, and deletes snapshots."""
