"""Whether a JPEG is all there, which decoders that go on where it is spoilt do not say.

After ITU-T T.81 (1992), annexes B (segments) and F (Huffman codes of sequential scans).
"""

import functools
import struct

import numpy as np

from nsl.slides.jpeg_segments import SCAN, segments
from nsl.system.parallel import kernel

# Markers of segments: frames of sequential scans, tables of Huffman codes, scans, the interval of restarts, and what
# changes no codes (tables of quantization, applications' own, comments).
_FRAMES, _TABLES, _INTERVAL = (0xC0, 0xC1), 0xC4, 0xDD
_QUIET = {0xDB, 0xFE, *range(0xE0, 0xF0)}
# Bytes before the scan, and of tables for many: four times what these take.
_MOST_HEAD = 2**12
# Bits of the codes that are looked up in a table small enough for the processor's nearest memory.
_SHORT = 9


def is_whole_jpeg(data: bytes, tables: bytes, height: int, width: int, most_head: int = _MOST_HEAD) -> bool:
    """Whether every block of a JPEG of this size has its codes, in one scan of three components of 8 bits.

    data : the JPEG, without the segments that it shares with others; these are in `tables`, as in a TIFF.
    most_head : bytes that are looked at for the segments before its scan.

    False for a JPEG of another kind (progressive, arithmetic, in several scans), be it whole or not.
    """
    if len(tables) > _MOST_HEAD:
        return False
    try:
        at = max(end for _, _, end in segments(data[:most_head]))
        scan = _read_scan(tables, data[:at], height, width)
    except (struct.error, KeyError, IndexError, ValueError):
        return False
    return bool(_has_all_codes(np.frombuffer(data, np.uint8), at, *scan))


# The tiles of a level begin alike.
@functools.lru_cache(maxsize=8)
def _read_scan(
    tables: bytes, head: bytes, height: int, width: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int, int]:
    """What `_has_all_codes` has to know of a scan; an error where it is of another kind or size."""
    codes: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    frames, scans, interval = [], [], 0
    for marker, body, _ in (*(segments(tables) if tables else ()), *segments(head)):
        if marker == _TABLES:
            codes |= _read_codes(body)
        elif marker == _INTERVAL:
            (interval,) = struct.unpack(">H", body)
        elif marker == SCAN:
            scans.append(body)
        elif marker in _FRAMES:
            frames.append(body)
        elif (
            marker not in _QUIET or (body[:5] == b"JFIF\0" and body[5] != 1) or (body[:5] == b"Adobe" and body[11] > 1)
        ):
            raise ValueError  # a version of JFIF or colours of Adobe's that libjpeg does not know, too
    (frame,), (scan,) = frames, scans
    names, factors = frame[6::3], [divmod(both, 16) for both in frame[7::3]]
    is_plain = len(frame) == 15 and frame[:6] == struct.pack(">BHHB", 8, height, width, 3)
    is_whole = (scan[0], scan[1:7:2], scan[7:]) == (3, names, b"\0\x3f\0")
    if not (is_plain and is_whole and all(1 <= n <= 4 for factor in factors for n in factor)):
        raise ValueError
    numbers = [number for table in scan[2:7:2] for number in (table >> 4, 16 + (table & 15))]
    used, short = (np.array([codes[number][n] for number in numbers]) for n in (0, 1))
    across, down = (8 * max(factor[axis] for factor in factors) for axis in (0, 1))
    blocks = np.repeat(np.arange(3), [across * down for across, down in factors])
    return used, short, blocks, -(-width // across) * -(-height // down), interval


def _read_codes(body: bytes) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Of each table of a segment, by class × 16 + number: what 16 bits begin with, and what 9 do.

    Told in one number: 32 × the coefficients that are done with the code, and the bits of it and of the value behind it
    (F.2.2); 0 where there is no such code, or none so short.
    """
    found, at = {}, 0
    while at < len(body):
        lengths = np.frombuffer(body, np.uint8, 16, at + 1)
        symbols = np.frombuffer(body, np.uint8, int(lengths.sum()), at + 17).astype(np.int64)
        bits, (runs, sizes) = np.repeat(np.arange(1, 17), lengths), np.divmod(symbols, 16)
        if body[at] & 16:  # without a value, 16 coefficients are 0, or all that are left
            meant = 32 * np.where((sizes > 0) | (runs == 15), runs + 1, 64) + bits + sizes
        else:
            meant = np.where(runs > 0, 0, 32 + bits + sizes)
        beginnings = 2 ** (16 - bits)
        rest = 2**16 - int(beginnings.sum())
        if rest < 0 or body[at] & 0xEC:
            raise ValueError
        codes = np.pad(np.repeat(meant, beginnings), (0, rest)).astype(np.uint16)
        short = np.pad(np.repeat(np.where(bits <= _SHORT, meant, 0), beginnings), (0, rest)).astype(np.uint16)
        found[body[at]] = codes, short[:: 2 ** (16 - _SHORT)]
        at += 17 + len(symbols)
    return found


@kernel
def _has_all_codes(data, at, codes, short, blocks, units, interval):
    """Whether `units` of `blocks`, each the number of its component, have all their codes in `data` from `at` on.

    codes, short : (6, 65536) and (6, 512), for the first coefficient and the others of every component, as of
        `_read_codes`.
    interval : units between markers at which decoders begin anew; 0 for none.
    """
    bits, left, beyond, end, restart = np.uint64(0), 0, 0, len(data), 0
    for unit in range(units):
        if interval and unit and unit % interval == 0:
            # What is left of a byte is filled up; the markers count from 0 to 7.
            if left - beyond >= 8 or at + 1 >= end or data[at] != 0xFF or data[at + 1] != 0xD0 + restart:
                return False
            at, left, beyond, restart = at + 2, 0, 0, (restart + 1) % 8
        for component in blocks:
            k, table = 0, 2 * component
            while k < 64:
                if left < 32:
                    while left <= 48:
                        byte = 0
                        if at < end and data[at] != 0xFF:
                            byte, at = data[at], at + 1
                        elif at + 1 < end and data[at + 1] == 0:
                            byte, at = 0xFF, at + 2
                        else:  # a marker or the end, and zeros behind it
                            beyond += 8
                        bits, left = (bits << np.uint64(8)) | np.uint64(byte), left + 8
                seen = bits >> np.uint64(left - 16) & np.uint64(0xFFFF)
                meant = short[table, seen >> np.uint64(7)]
                if meant == 0:
                    meant = codes[table, seen]
                left -= meant & 31
                if meant == 0 or left < beyond:
                    return False
                if k == 0:
                    table += 1
                k += meant >> 5
    return True
