"""What stands before the pixels of a JPEG: its segments (ITU-T T.81, annex B), and of what colours it says it is."""

from __future__ import annotations

import struct
from collections.abc import Iterator

SCAN = 0xDA
_END = 0xD9
_JFIF, _ADOBE, _FRAMES = 0xE0, 0xEE, {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}


def segments(content: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Marker, body and end of every segment, up to a scan's, whose end is where its codes begin."""
    if content[:2] != b"\xff\xd8":
        raise ValueError
    at = 2
    while at < len(content):
        start, marker = content[at : at + 2]
        if start != 0xFF:
            raise ValueError
        if marker == _END:
            return
        (length,) = struct.unpack(">H", content[at + 2 : at + 4])
        at += 2 + length
        if length < 2 or at > len(content):
            raise ValueError
        yield marker, content[at - length + 2 : at], at
        if marker == SCAN:
            return


def stated_colours(data: bytes, tables: bytes = b"") -> str | None:
    """RGB or YCBCR where a JPEG of three components tells which they are; None where it leaves that to a TIFF's tag.

    It tells by the mark of JFIF (ITU-T T.871), by a resolution of some components that is less than that of others,
    which RGB has not whatever stands beside it, by the mark of Adobe, and by components that are called R, G and B or,
    as JFIF counts, 1, 2 and 3. TIFF writers count from 0.

    tables : the segments that it shares with others.
    """
    found: dict[str, str | None] = {}
    try:
        for marker, body, _ in (*(segments(tables) if tables else ()), *segments(data)):
            if marker == _JFIF and body[:5] == b"JFIF\0":
                found["JFIF"] = "YCBCR"
            elif marker == _ADOBE and body[:5] == b"Adobe":
                found["Adobe"] = {0: "RGB", 1: "YCBCR"}.get(body[11])
            elif marker in _FRAMES and len(body) == 15:
                found["coarser"] = "YCBCR" if len(set(body[7::3])) > 1 else None
                found["names"] = {b"\1\2\3": "YCBCR", b"RGB": "RGB"}.get(body[6::3])
    except (ValueError, struct.error, IndexError):
        return None
    return next((colours for told in ("JFIF", "coarser", "Adobe", "names") if (colours := found.get(told))), None)


def stated_frame(data: bytes) -> tuple[int, int, int] | None:
    """Bits a channel, height and width that a JPEG says it has; None where it cannot be followed to its pixels."""
    try:
        frames = [struct.unpack(">BHH", body[:5]) for marker, body, _ in segments(data) if marker in _FRAMES]
    except (ValueError, struct.error):
        return None
    return max(frames, key=lambda frame: frame[1] * frame[2], default=None)
