"""Pixels that a compressed picture says it has, before a decoder takes memory for them."""

from __future__ import annotations

import io
import math
import struct

from nsl.slides.jpeg_segments import stated_frame
from nsl.slides.picture import _pillow_open

JPEG_2000_START = b"\xff\x4f\xff\x51"
_JPEG_2000_BOX, _JPEG_XL_START, _JPEG_XL_BOX = b"jP  ", b"\xff\x0a", b"JXL "
# ISO/IEC 18181-1, size header: bits of a length by its selector, and width over height by the number of a ratio.
_LENGTH_BITS = (9, 13, 18, 30)
_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}


def stated_pixels(data: bytes) -> int:
    """Width × height of a JPEG, PNG, WebP, JPEG 2000 or JPEG XL, in four components each.

    Raises struct.error, ValueError, or what Pillow raises, where the data is none of these.
    """
    if data[4:8] == _JPEG_2000_BOX:
        data = data[data.index(JPEG_2000_START) :]
    if data.startswith(JPEG_2000_START):
        width, height, *_, components = struct.unpack(">8x8IH", data[:42])
        return width * height * -(-components // 4)
    if data[4:8] == _JPEG_XL_BOX:
        data = data[data.index(_JPEG_XL_START, 12) :]
    if data.startswith(_JPEG_XL_START):
        return math.prod(_jpeg_xl_size(int.from_bytes(data[2:18], "little")))
    if frame := stated_frame(data):  # of 12 bits a channel too, which Pillow does not take
        return frame[1] * frame[2]
    with _pillow_open(io.BytesIO(data), ("JPEG", "PNG", "WEBP")) as picture:
        return math.prod(picture.size)


def _jpeg_xl_size(bits: int) -> tuple[int, int]:
    """Width and height, from a size header whose first bit is the lowest."""

    def take(count: int) -> int:
        nonlocal bits
        value, bits = bits & ((1 << count) - 1), bits >> count
        return value

    is_small = take(1)

    def length() -> int:
        return 8 * (take(5) + 1) if is_small else take(_LENGTH_BITS[take(2)]) + 1

    height, ratio = length(), take(3)
    if ratio == 0:
        return length(), height
    of_width, of_height = _RATIOS[ratio]
    return height * of_width // of_height, height
