"""The segments of a JPEG (ITU-T T.81, annex B): of what colours it says it is, and in what strips it can be decoded."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

SCAN = 0xDA
_END, _INTERVAL, _SEQUENTIAL = 0xD9, 0xDD, (0xC0, 0xC1)
# Restart markers count from 0 to 7: where the count begins again, a picture of its own may begin.
_CYCLE, _LAST_OF_CYCLE = 8, re.compile(b"\xff\xd7")
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


@dataclass(frozen=True)
class JpegStrips:
    """A JPEG as strips that can be decoded by themselves, for its codes begin anew at restart markers.

    At a half of its size and less, they show just what the whole does; at full size a decoder smooths colours across.
    """

    data: bytes
    height: int
    """Pixels of the whole."""
    strip_rows: int
    """Pixel rows of a strip; the last may have fewer."""
    head_bytes: int
    """Before the codes."""
    height_at: int
    """Where the head has the height."""
    ends: tuple[int, ...]
    """Where the codes of each strip end."""

    @classmethod
    def of(cls, data: bytes, most_head: int) -> Self | None:
        """None of a JPEG without such markers at the ends of rows, and of one that is progressive or in several scans.

        most_head : bytes that are looked at for the segments before the scan.
        """
        try:
            found = list(segments(data[:most_head]))
            ((kind, frame, frame_end),) = [segment for segment in found if segment[0] in _FRAMES]
            ((_, interval, _),) = [segment for segment in found if segment[0] == _INTERVAL]
            last, scan, head_bytes = found[-1]
            height, width = struct.unpack(">HH", frame[1:5])
            factors = [divmod(both, 16) for both in frame[7::3]]
            across, down = (8 * max(own) for own in zip(*factors, strict=True))
            rows, cut = divmod(struct.unpack(">H", interval)[0], -(-width // across))
            intervals = -(-height // (rows * down))
        except (ValueError, IndexError, ZeroDivisionError, struct.error):
            return None
        if cut or down > 16 or kind not in _SEQUENTIAL or last != SCAN or scan[0] != frame[5]:
            return None
        ends = [match.start() for match in _LAST_OF_CYCLE.finditer(data, head_bytes)]
        if len(ends) != (intervals - 1) // _CYCLE:
            return None
        height_at = frame_end - len(frame) + 1
        return cls(data, height, _CYCLE * rows * down, head_bytes, height_at, (*ends, len(data)))

    def __len__(self) -> int:
        return len(self.ends)

    def joined(self, start: int, stop: int) -> tuple[bytes, int]:
        """Some strips, one below the other, as a JPEG, and its height in pixels."""
        height = min(stop * self.strip_rows, self.height) - start * self.strip_rows
        begin = self.ends[start - 1] + 2 if start else self.head_bytes
        head, behind = self.data[: self.height_at], self.data[self.height_at + 2 : self.head_bytes]
        codes = self.data[begin : self.ends[stop - 1]]
        return b"".join((head, struct.pack(">H", height), behind, codes, b"\xff\xd9")), height
