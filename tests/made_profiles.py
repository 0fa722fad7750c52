"""Colour profiles (ICC, version 2) made in code."""

import struct

import numpy as np

# To the white of ICC's connection space (D50), as Adobe RGB (1998) and ICC's sRGB state theirs.
WIDE_PRIMARIES = np.array([[0.6097, 0.3111, 0.0195], [0.2053, 0.6257, 0.0609], [0.1492, 0.0632, 0.7446]])
SRGB_PRIMARIES = np.array([[0.4361, 0.2225, 0.0139], [0.3851, 0.7169, 0.0971], [0.1431, 0.0606, 0.7141]])
_WHITE = (0.9642, 1.0, 0.8249)


def made_profile(name: str, primaries: np.ndarray = WIDE_PRIMARIES, gamma: float = 1.8) -> bytes:
    """A profile of three primaries (3, 3; rows are XYZ of red, green, blue) and one gamma."""
    curve = b"curv" + struct.pack(">IIH", 0, 1, round(gamma * 256)) + b"\0\0"
    words = name.encode("ascii") + b"\0"
    tags = {
        b"desc": b"desc" + struct.pack(">II", 0, len(words)) + words + bytes(78),
        b"cprt": b"text" + bytes(4) + b"none\0",
        b"wtpt": _xyz(_WHITE),
        **{b"rgb"[i : i + 1] + b"XYZ": _xyz(primaries[i]) for i in range(3)},
        **{b"rgb"[i : i + 1] + b"TRC": curve for i in range(3)},
    }
    table, body, at = b"", b"", 128 + 4 + 12 * len(tags)
    for key, content in tags.items():
        table += key + struct.pack(">II", at + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    size = at + len(body)
    header = struct.pack(">I4sI", size, bytes(4), 0x02100000) + b"mntrRGB XYZ " + bytes(12) + b"acsp" + bytes(28)
    header += _xyz(_WHITE)[8:]
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def _xyz(values) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(float(value) * 65536) for value in values))
