"""Make weights/her2-breast and the evaluation table from the published HER2+ breast sections, in one command.

    python weights/make_her2_breast.py RAW_FOLDER

RAW_FOLDER holds the files that `her2st-manifest.csv` beside this script lists: those of Andersson et al. 2021
(Nat Commun 12:6012), from github.com/almaan/her2st and doi.org/10.5281/zenodo.4751624. They are first turned into
the manifest that `python -m nsl evaluate` and `python -m nsl train` take, in out/her2st; the table goes to
out/evaluation, and from there into the model card.
"""

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from nsl.cli import main as nsl_command  # noqa: E402
from nsl.methods.comparison import card_rows  # noqa: E402
from nsl.weights.folder import load_weights, save_weights  # noqa: E402

PUBLISHED = Path(__file__).resolve().with_name("her2st-manifest.csv")
PREPARED, EVALUATION, WEIGHTS = Path("out/her2st"), Path("out/evaluation"), Path("weights/her2-breast")
# Patient A's images were published at 2000 of 6954 px and are black outside the tissue.
SMALL_SCALE = 2000 / 6954
# The corner of A's images that shows the whole slide with drawn outlines: x from, y to, in pixels.
INSET_FROM_X, INSET_TO_Y = 1480, 560

TRAIN_OPTIONS = [
    *("--name", "her2-breast"),
    *("--tissue", "HER2-positive breast cancer"),
    *("--source", "Andersson et al. 2021, Nat Commun 12:6012, by weights/make_her2_breast.py"),
    *("--licence", "none stated for the data; research use"),
    *("--signatures", "weights/breast-signatures.gmt"),
]


def prepare(raw: Path, folder: Path) -> Path:
    """Write manifest, spot tables and masked images of every section under `raw` into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    table = pd.read_csv(PUBLISHED, dtype=str)
    for i, row in table.iterrows():
        image, small = (raw / row.image).resolve(), row.patient == "A"
        spots = folder / f"{row.section}_spots.csv"
        _spot_positions(raw / row.spots, SMALL_SCALE if small else 1.0).to_csv(spots, index=False)
        table.loc[i, "image"] = _without_inset(image, folder / f"{row.section}.png") if small else str(image)
        table.loc[i, "spots"] = spots.name
        table.loc[i, "counts"] = str((raw / row.counts).resolve())
    manifest = folder / "manifest.csv"
    table.to_csv(manifest, index=False)
    return manifest


def _spot_positions(path: Path, scale: float) -> pd.DataFrame:
    table = pd.read_csv(path, sep="\t")
    # A2's image was registered to A1's, so its published positions do not fit; estimated ones, of this image, do.
    xy = table[["png_x", "png_y"]] if "png_x" in table else table[["pixel_x", "pixel_y"]] * scale
    names = [f"{x}x{y}" for x, y in zip(table.x, table.y, strict=True)]
    return xy.set_axis(["x_px", "y_px"], axis=1).assign(spot=names)[["spot", "x_px", "y_px"]]


def _without_inset(image: Path, masked: Path) -> str:
    with Image.open(image) as picture:
        picture = picture.convert("RGB")
    picture.paste((0, 0, 0), (INSET_FROM_X, 0, picture.width, INSET_TO_Y))
    picture.save(masked, compress_level=1)
    return masked.name


def add_table_to_card() -> None:
    """Put the evaluation into the weights' config, and so into the model card."""
    weights = load_weights(WEIGHTS)
    rows = card_rows(pd.read_csv(EVALUATION / "evaluation.csv"))
    save_weights(replace(weights, config=replace(weights.config, evaluation=tuple(rows))), WEIGHTS)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("raw", type=Path, help="folder with counts/, spots/ and images/")
    parser.add_argument("--prepare-only", action="store_true", help="write out/her2st/manifest.csv and stop")
    args = parser.parse_args()
    raw = args.raw.resolve()
    os.chdir(ROOT)  # the command the model card records then works from a checkout
    manifest = prepare(raw, PREPARED)
    if args.prepare_only:
        return 0
    status = nsl_command(["evaluate", "--data", str(manifest), "--out", str(EVALUATION)])
    status = status or nsl_command(["train", str(manifest), "--out", str(WEIGHTS), *TRAIN_OPTIONS])
    if status == 0:
        add_table_to_card()
    return status


if __name__ == "__main__":
    sys.exit(main())
