"""Make weights/her2-breast from the published files of the HER2+ breast sections, in one command.

    python weights/make_her2_breast.py RAW_FOLDER

RAW_FOLDER holds `counts/`, `spots/` and `images/` as published with Andersson et al. 2021 (Nat Commun
12:6012). The files are first turned into the manifest that `python -m nsl train` takes.
"""

import argparse
import os
import sys
from pathlib import Path

import pandas as pd
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from nsl.cli import main as nsl_command  # noqa: E402

SECTIONS = {"A1": "A", "A2": "A", "B4": "B", "C2": "C", "C3": "C", "C4": "C", "C5": "C"}
FULL_MPP = 0.69
# Patient A's images were published at 2000 of 6954 px and are black outside the tissue.
SMALL_MPP = 3.20
SMALL_SCALE = 2000 / 6954
# The corner of A's images that shows the whole slide with drawn outlines: x from, y to, in pixels.
INSET_FROM_X, INSET_TO_Y = 1480, 560

TRAIN_OPTIONS = [
    *("--name", "her2-breast"),
    *("--source", "Andersson et al. 2021, Nat Commun 12:6012, by weights/make_her2_breast.py"),
    *("--licence", "none stated for the data; research use"),
]


def prepare(raw: Path, folder: Path) -> Path:
    """Write manifest, spot tables and masked images of every section under `raw` into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for section, patient in SECTIONS.items():
        small = patient == "A"
        image = next((raw / "images").glob(f"{section}_*")).resolve()
        spots = folder / f"{section}_spots.csv"
        _spot_positions(raw, section).to_csv(spots, index=False)
        rows.append(
            {
                "section": section,
                "patient": patient,
                "image": _without_inset(image, folder / f"{section}.png") if small else image,
                "mpp": SMALL_MPP if small else FULL_MPP,
                "spots": spots.name,
                "counts": (raw / "counts" / f"{section}.tsv.gz").resolve(),
            }
        )
    manifest = folder / "manifest.csv"
    pd.DataFrame(rows).to_csv(manifest, index=False)
    return manifest


def _spot_positions(raw: Path, section: str) -> pd.DataFrame:
    # A2's image was registered to A1's, so its published positions do not fit; estimated ones do.
    name = "A2_png_coords_ESTIMATED" if section == "A2" else f"{section}_selection"
    table = pd.read_csv(raw / "spots" / f"{name}.tsv", sep="\t")
    columns = ["png_x", "png_y"] if section == "A2" else ["pixel_x", "pixel_y"]
    scale = SMALL_SCALE if section == "A1" else 1.0
    x_px, y_px = (table[column] * scale for column in columns)
    return pd.DataFrame(
        {"spot": [f"{x}x{y}" for x, y in zip(table.x, table.y, strict=True)], "x_px": x_px, "y_px": y_px}
    )


def _without_inset(image: Path, masked: Path) -> str:
    with Image.open(image) as picture:
        picture = picture.convert("RGB")
    picture.paste((0, 0, 0), (INSET_FROM_X, 0, picture.width, INSET_TO_Y))
    picture.save(masked, compress_level=1)
    return masked.name


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("raw", type=Path, help="folder with counts/, spots/ and images/")
    parser.add_argument("--prepare-only", action="store_true", help="write out/her2st/manifest.csv and stop")
    args = parser.parse_args()
    raw = args.raw.resolve()
    os.chdir(ROOT)  # the command the model card records then works from a checkout
    manifest = prepare(raw, Path("out/her2st"))
    if args.prepare_only:
        return 0
    return nsl_command(["train", str(manifest), "--out", "weights/her2-breast", *TRAIN_OPTIONS])


if __name__ == "__main__":
    sys.exit(main())
