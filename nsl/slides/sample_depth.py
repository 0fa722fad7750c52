"""What value of a deep image is white: cameras fill 16 bits with 10 to 14, and floats run to 1 or to 255."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Of the full scale: floats that were resampled go a little beyond both ends.
_OVERSHOOT = 0.05


def full_scale(dtype: np.dtype, low: float, high: float, stated: Sequence[float]) -> tuple[float, bool] | None:
    """The value that becomes 255, and whether metadata says so; None where the values are of no image's kind.

    low, high : least and greatest value, as far as looked at.
    stated : full scales that metadata says. One that is all a whole number has room for says nothing, as writers put it
        without asking, and one that the values exceed is wrong.

    Where metadata says nothing it is the least 2**n - 1 (n from 8) that no value exceeds, or 1 for floats up to it.
    """
    if dtype.kind not in "uif" or not (np.isfinite(low) and np.isfinite(high)):
        return None
    room = np.inf if dtype.kind == "f" else float(np.iinfo(dtype).max)
    told = [value for value in stated if 0 < value < room and value >= high]
    if told:
        peak = min(told)
    elif dtype.kind == "f" and high <= 1 + _OVERSHOOT:
        peak = 1.0
    else:
        peak = min(2.0 ** max(8, int(np.ceil(np.log2(high + 1)))) - 1, room)
    return (peak, bool(told)) if low >= -_OVERSHOOT * peak else None
