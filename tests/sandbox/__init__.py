# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines on btrfs that live in a mount and a PID namespace, for the dnf tests and the demo."""
