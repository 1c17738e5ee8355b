# SPDX-License-Identifier: GPL-2.0-or-later
"""From a snapshot to a rollback that is done and verified, or refused."""
