"""How far a map depends on what is not tissue: the side a slide lies on, its brightness, compression and resolution.

The tolerances are those of the README, "What a map withstands": the least r of a gene, and differences in its standard
deviations.
"""

import hashlib
from collections.abc import Callable
from typing import NamedTuple

import anndata
import numpy as np
import pytest
from PIL import Image

from nsl.prediction import predict, predict_spots
from nsl.result import Provenance
from nsl.slides.slide import open_slide
from nsl.weights.reliability import has_held_up

TURNS = {
    "turned": (lambda pixels: np.rot90(pixels, -1), lambda row, column, last: (column, last - row)),
    "upside down": (lambda pixels: pixels[::-1], lambda row, column, last: (last - row, column)),
    "mirrored": (lambda pixels: pixels[:, ::-1], lambda row, column, last: (row, last - column)),
}


class Scan(NamedTuple):
    pixels: np.ndarray
    mpp: float
    tile_um: float

    def with_pixels(self, change: Callable[[np.ndarray], np.ndarray]) -> "Scan":
        return self._replace(pixels=np.ascontiguousarray(change(self.pixels)))

    @property
    def last(self) -> int:
        """Row and column of the last tile."""
        return round(len(self.pixels) * self.mpp / self.tile_um) - 1


@pytest.fixture(scope="module", params=["synthetic", "real"])
def scan(request) -> Scan:
    """A square of whole tiles: of paint, and of breast cancer."""
    if request.param == "synthetic":
        return Scan(np.ascontiguousarray(request.getfixturevalue("section").pixels[:, :600]), 1.0, 60.0)
    with open_slide(request.getfixturevalue("data_folder") / "her2st/images/C4_full.jpg") as slide:
        return Scan(slide.read(2400, 3000, 2700, 2700), 0.75, 135.0)


@pytest.fixture(scope="module")
def mapped(tmp_path_factory, embedded) -> Callable[..., anndata.AnnData]:
    """Predicts some of the reliable genes of a scan, written as a file."""
    genes = [*embedded.reliability.index[has_held_up(embedded.reliability)]][::20]
    folder, known = tmp_path_factory.mktemp("scans"), {}

    def run(scan: Scan, name: str = "a.tif", *, transfer: bool = True, **options) -> anndata.AnnData:
        key = hashlib.sha256(scan.pixels).hexdigest(), name, transfer
        if key not in known:
            Image.fromarray(scan.pixels).save(folder / name, **options)
            with open_slide(folder / name, scan.mpp) as slide:
                known[key] = predict(slide, embedded, genes=genes, tile_um=scan.tile_um, transfer=transfer)
        return known[key]

    return run


def _same_place(row: int, column: int, last: int) -> tuple[int, int]:
    return row, column


def _differences(
    one: anndata.AnnData, other: anndata.AnnData, last: int = 0, place: Callable[..., tuple[int, int]] = _same_place
) -> tuple[float, float]:
    """Of tiles that both have, each where `place` says: least r of a gene, and the largest difference in its sd.

    At least 95 % of the first's must be there, of which thin tissue at the edge may be counted otherwise.
    """
    of_other = {tuple(at): number for number, at in enumerate(other.obs[["array_row", "array_col"]].to_numpy())}
    places = [place(*at, last) for at in one.obs[["array_row", "array_col"]].to_numpy()]
    pairs = np.array([(number, of_other[at]) for number, at in enumerate(places) if at in of_other])
    assert len(pairs) >= 0.95 * one.n_obs
    a, b = one.X[pairs[:, 0]].astype(float), other.X[pairs[:, 1]].astype(float)
    r = min(np.corrcoef(a[:, gene], b[:, gene])[0, 1] for gene in range(a.shape[1]))
    return r, float((np.abs(a - b).max(axis=0) / a.std(axis=0)).max())


@pytest.mark.parametrize("turn", TURNS)
def test_a_turned_slide_gives_the_turned_map_and_no_other_value(scan, mapped, turn):
    change, place = TURNS[turn]
    maps = [mapped(one, transfer=False) for one in (scan, scan.with_pixels(change))]
    _, most = _differences(*maps, scan.last, place)
    assert most < 1e-4


@pytest.mark.parametrize("turn", TURNS)
def test_stains_told_from_a_turned_slide_move_its_map_little(scan, mapped, turn):
    """They are told from sixty squares of tissue, and turned these are others."""
    change, place = TURNS[turn]
    r, _ = _differences(mapped(scan), mapped(scan.with_pixels(change)), scan.last, place)
    assert r > 0.98


def test_a_slide_cut_in_two_gives_the_same_tiles(scan, mapped, tmp_path, embedded):
    """With the white point and the stains of the whole, as two sections of one slide share them."""
    whole, middle = mapped(scan), len(scan.pixels) // 2 // 4 * 4
    info, x = Provenance.of(whole), whole.obsm["spatial"][:, 0]
    reach = scan.tile_um / scan.mpp / 2
    for inside, start, end in ((x + reach <= middle, 0, middle), (x - reach >= middle, middle, None)):
        Image.fromarray(scan.pixels[:, start:end]).save(tmp_path / "half.tif")
        options = {"genes": whole.var_names, "spot_window_um": scan.tile_um}
        shared = {"white_point": info.white_point, "transfer": info.transfer}
        with open_slide(tmp_path / "half.tif", scan.mpp) as half:
            centers_px = whole.obsm["spatial"][inside] - [start, 0]
            values = predict_spots(half, embedded, centers_px, **options, **shared)
        assert inside.sum() > whole.n_obs / 3
        assert (np.abs(values - whole.X[inside]).max(axis=0) < 1e-4 * whole.X.std(axis=0)).all()


def test_a_darker_lamp_is_taken_up_by_the_white_point(scan, mapped):
    darker = scan.with_pixels(lambda pixels: np.rint(pixels * 0.8).astype(np.uint8))
    r, _ = _differences(mapped(scan), mapped(darker))
    assert r > 0.995


def test_compression_changes_a_map_little(scan, mapped):
    fine, coarse = (mapped(scan, f"{quality}.jpg", quality=quality) for quality in (95, 75))
    r, _ = _differences(fine, coarse)
    assert r > 0.995


def test_half_the_resolution_changes_a_map_little(scan, mapped):
    coarse = scan.with_pixels(lambda pixels: np.asarray(Image.fromarray(pixels).reduce(2)))
    r, _ = _differences(mapped(scan), mapped(coarse._replace(mpp=2 * scan.mpp)))
    assert r > 0.998
