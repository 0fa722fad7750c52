"""Results as SpatialData: tiles as shapes over the picture of the slide, and their predictions as a table."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from nsl.errors import NslError
from nsl.result import Provenance, SlidePicture
from nsl.signatures import as_table
from nsl.stats.moran import with_morans_i

if TYPE_CHECKING:
    import anndata
    import spatialdata

_ELEMENT, _TILE = "element", "tile"
"""Columns of the table's `obs` that say which shapes a row is of, and which of them."""


def spatial_data(result: anndata.AnnData) -> spatialdata.SpatialData:
    """The result as squares `shapes["tiles"]` over `images["slide"]`, annotated by `tables["prediction"]`.

    Two coordinate systems: "global" is pixels of the slide's level 0, "microns" what it says. The table is the AnnData
    that h5ad holds, but for the picture.

    Raises NslError: the package spatialdata is not installed.
    """
    sd = _spatialdata()
    import geopandas
    from shapely import box

    known, picture = Provenance.of(result), SlidePicture.of(result)
    genes = as_table(result)
    half = known.tile_um / known.mpp / 2
    x, y = genes.obsm["spatial"].T
    squares = geopandas.GeoDataFrame(geometry=box(x - half, y - half, x + half, y + half), index=genes.obs_names)
    table = genes.copy()
    table.var = with_morans_i(genes)
    table.obs[_ELEMENT], table.obs[_TILE] = "tiles", table.obs_names
    table.obs[_ELEMENT] = table.obs[_ELEMENT].astype("category")
    table.uns.pop("spatial")

    def placed(px: float) -> dict:
        """Where an element lies whose unit is so many pixels of level 0."""
        scales = {"global": px, "microns": px * known.mpp}
        return {name: sd.transformations.Scale([by, by], axes=("x", "y")) for name, by in scales.items()}

    return sd.SpatialData(
        images={
            "slide": sd.models.Image2DModel.parse(
                picture.rgb, dims=("y", "x", "c"), c_coords=["r", "g", "b"], transformations=placed(1 / picture.scale)
            )
        },
        shapes={"tiles": sd.models.ShapesModel.parse(squares, transformations=placed(1.0))},
        tables={
            "prediction": sd.models.TableModel.parse(table, region="tiles", region_key=_ELEMENT, instance_key=_TILE)
        },
    )


def write_spatialdata(result: anndata.AnnData, path: Path) -> None:
    """Write `spatial_data` as a folder that `spatialdata.read_zarr` reads, named as `path` but ending in .zarr.

    Raises NslError: the package spatialdata is not installed, or the folder cannot be written.
    """
    target = path.with_suffix(".zarr")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own and its dependencies' to come
        data = spatial_data(result)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=f"{target.name}.", dir=target.parent) as folder:
                written, before = Path(folder) / "written", Path(folder) / "before"
                data.write(written)
                if target.exists():
                    target.replace(before)
                written.replace(target)
        except OSError as error:
            reason = error.strerror or error
            raise NslError(f"{target.name} cannot be written ({reason}); choose another folder") from None


def _spatialdata():
    try:
        import spatialdata
        import spatialdata.models
        import spatialdata.transformations
    except ImportError:
        raise NslError(
            "the format spatialdata needs the package of that name; install it (pip install spatialdata==0.7.3), or "
            "write h5ad"
        ) from None
    return spatialdata
