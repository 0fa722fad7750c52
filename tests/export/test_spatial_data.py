"""Results as SpatialData."""

import sys

import numpy as np
import pytest

from nsl.errors import NslError
from nsl.export.files import FORMATS, names_of
from nsl.prediction import predict
from nsl.result import Provenance, SlidePicture
from nsl.slides.slide import open_slide
from nsl.weights.folder import load_weights


@pytest.fixture
def predicted(section_png, tiny_weights):
    with open_slide(section_png, 1.0) as slide:
        return predict(slide, load_weights(str(tiny_weights)))


def test_without_the_package_the_remedy_is_named_and_nothing_written(predicted, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "spatialdata", None)
    with pytest.raises(NslError, match="pip install spatialdata"):
        FORMATS["spatialdata"](predicted, tmp_path / "out/a.spatialdata")
    assert not (tmp_path / "out").exists()


@pytest.mark.evaluation
@pytest.mark.filterwarnings("ignore")  # those of spatialdata's own dependencies
def test_it_reads_back_as_tiles_over_the_slide_with_their_values(predicted, tmp_path):
    import spatialdata

    for _ in range(2):  # the second in the place of the first
        FORMATS["spatialdata"](predicted, tmp_path / "out/slide.one.spatialdata")
    assert [path.name for path in (tmp_path / "out").iterdir()] == names_of("spatialdata", "slide.one", [])
    read = spatialdata.read_zarr(tmp_path / "out/slide.one.zarr")
    table, tiles = read.tables["prediction"], read.shapes["tiles"]
    assert (np.asarray(table.X) == predicted.X).all()
    assert list(table.obs["tile"]) == list(tiles.index) == list(predicted.obs_names)
    assert table.uns["nsl"]["weights_id"] == Provenance.of(predicted).weights_id
    assert {"r_heldout", "morans_i"} <= set(table.var.columns)
    known = Provenance.of(predicted)
    first, half = predicted.obsm["spatial"][0], known.tile_um / known.mpp / 2
    assert tiles.geometry.iloc[0].bounds == pytest.approx((*(first - half), *(first + half)))
    for system, unit in (("global", 1.0), ("microns", known.mpp)):
        extent = spatialdata.get_extent(read, coordinate_system=system, elements=["slide"])
        size = SlidePicture.of(predicted).size_um / known.mpp * unit
        assert [extent["x"], extent["y"]] == [pytest.approx((0, size[0])), pytest.approx((0, size[1]))]
    squares = spatialdata.transform(tiles, to_coordinate_system="microns")
    assert squares.geometry.iloc[0].area == pytest.approx(known.tile_um**2)
