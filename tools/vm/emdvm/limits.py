# SPDX-License-Identifier: GPL-2.0
"""How long things may take."""

import os


def scale() -> float:
    """Limits are written for an idle machine; a busy or slow one gets three times as long. EMD_TIMEOUT_SCALE= for others."""
    return float(os.environ.get("EMD_TIMEOUT_SCALE") or 3)
