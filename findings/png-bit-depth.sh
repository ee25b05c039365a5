#!/usr/bin/env bash
# Pillow 13.0.0: what the numbers in a PNG come out as depends on its bit depth and kind, and some lose half their bits.
#
# Guess: a PNG gives the numbers that stand in it, or an error where the library has no type for them.
# Seen: grey 0 1 2 3 in two bits comes as 0 85 170 255 (a palette image of the same bits as 0 1 2 3), and in 16 bits as it is;
#   but 16 bits of grey beside transparency, and 16-bit colour, come in eight bits: 256 to 511 are all 1.  The mode says
#   RGBA and RGB, as for any 8-bit file, and there is no warning.
# Who meets it: whoever stores label maps as small PNGs, or reads 16-bit microscopy, fundus or multi-channel images.
# Exits with 1 if one of the five comes out otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check pillow==13.0.0 numpy==2.4.6
"$folder/venv/bin/python" -W error - <<'PYTHON'
import io
import struct
import sys
import zlib

import numpy as np
from PIL import Image

GREY, COLOUR, PALETTE, GREY_ALPHA = 0, 2, 3, 4


def png(pixels, *, width, bits, kind, palette=b""):
    """A PNG of one row."""
    header = struct.pack(">IIBBBBB", width, 1, bits, kind, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"PLTE", palette), (b"IDAT", zlib.compress(b"\0" + pixels)), (b"IEND", b"")]
    written = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
        if data or name != b"PLTE"
    ]
    return io.BytesIO(b"\x89PNG\r\n\x1a\n" + b"".join(written))


zero_to_three = bytes([0b00_01_10_11])
files = {
    "grey, 2 bits": png(zero_to_three, width=4, bits=2, kind=GREY),
    "palette, 2 bits": png(zero_to_three, width=4, bits=2, kind=PALETTE, palette=bytes(range(12))),
    "grey, 16 bits": png(struct.pack(">HH", 256, 511), width=2, bits=16, kind=GREY),
    "grey and alpha, 16 bits": png(struct.pack(">4H", 256, 65535, 511, 65535), width=2, bits=16, kind=GREY_ALPHA),
    "colour, 16 bits": png(struct.pack(">3H", 256, 511, 65535), width=1, bits=16, kind=COLOUR),
}
stated = [
    ("L", [0, 85, 170, 255]),
    ("P", [0, 1, 2, 3]),
    ("I;16", [256, 511]),
    ("RGBA", [1, 1, 1, 255, 1, 1, 1, 255]),
    ("RGB", [1, 1, 255]),
]
seen = []
for name, file in files.items():
    with Image.open(file) as image:
        seen.append((image.mode, np.asarray(image).ravel().tolist()))
    print(f"{name}: {seen[-1][0]} {seen[-1][1]}")
print("as stated" if seen == stated else "CHANGED")
sys.exit(0 if seen == stated else 1)
PYTHON
