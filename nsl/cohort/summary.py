"""What is kept of each slide for the tables over all of them: a few numbers a gene, not its tiles."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self
from zipfile import BadZipFile

import anndata
import numpy as np

from nsl.errors import NslError
from nsl.result import Provenance
from nsl.signatures import as_columns
from nsl.slides.annotations.tiles import classes_of
from nsl.stats.pearson import mean_and_sd
from nsl.system.disk import write_whole

WHOLE = ""
"""The region that is all of the slide; no class is called so."""
_LEVELS = 101  # of percentiles, from 0 to 100


@dataclass(frozen=True)
class SlideSummary:
    """A slide's tiles in few numbers, for the whole of it and for each class of annotated regions."""

    columns: np.ndarray
    """(C,) names of signatures and genes."""
    regions: np.ndarray
    """(R,) WHOLE first, then classes; where no region has a class, the regions' names."""
    tiles: np.ndarray
    """(R,)"""
    tissue_mm2: np.ndarray
    """(R,) shares of tissue of the tiles, times the area that each stands for."""
    mean: np.ndarray
    """(R, C) float32."""
    sd: np.ndarray
    """(R, C) float32, over the tiles."""
    percentiles: np.ndarray
    """(R, 101, C) float32, from the 0th to the 100th; of fewer tiles their own values in order, then infinity."""
    stain_vectors: np.ndarray
    """(2, 3) of hematoxylin and eosin; NaN where too little is stained."""
    stain_strengths: np.ndarray
    """(2,) beside those that the weights know, before they were brought over; NaN likewise, or without transfer."""
    residual: float
    """Share of the optical density that neither stain explains."""

    @classmethod
    def of(cls, result: anndata.AnnData) -> Self:
        """Of a prediction."""
        known, result = Provenance.of(result), as_columns(result)
        classes = classes_of(result) if "region" in result.obs else np.full(result.n_obs, WHOLE)
        regions = [WHOLE, *sorted(set(classes) - {WHOLE})]
        members = [np.ones(result.n_obs, bool) if name == WHOLE else classes == name for name in regions]
        values = np.asarray(result.X)
        parts = [_told(values[inside]) for inside in members]
        tissue = result.obs["tissue_fraction"].to_numpy(float) * known.stride_um**2 / 1e6
        mean, sd, percentiles = map(np.stack, zip(*parts, strict=True))
        strengths = 1 / known.transfer_strengths if known.is_transferred else np.full(2, np.nan)
        return cls(
            columns=result.var_names.to_numpy(str),
            regions=np.array(regions, str),
            tiles=np.array([inside.sum() for inside in members]),
            tissue_mm2=np.array([tissue[inside].sum() for inside in members]),
            mean=mean,
            sd=sd,
            percentiles=percentiles,
            stain_vectors=known.slide_stain_vectors,
            stain_strengths=strengths,
            residual=known.transfer_residual,
        )

    @classmethod
    def read(cls, path: Path) -> Self:
        """NslError where the file is damaged or of another kind."""
        with _opened(path) as file:
            return cls(**{name: file[name] for name in cls.__dataclass_fields__})

    @staticmethod
    def read_parts(path: Path, *fields: str) -> list[np.ndarray]:
        """Some of its fields, without the percentiles, which are most of it; NslError as `read`."""
        with _opened(path) as file:
            return [file[name] for name in fields]

    def write(self, path: Path) -> None:
        """NslError where the disk does not take it."""

        def save(part: Path) -> None:
            with part.open("wb") as file:
                np.savez(file, **asdict(self))

        write_whole({path: save})

    def percentile(self, percent: int) -> np.ndarray:
        """(C,) over the tiles of the whole slide."""
        values = self._values(0)
        return self.percentiles[0, percent] if values is None else np.percentile(values, percent, axis=0)

    def share_above(self, thresholds: np.ndarray) -> np.ndarray:
        """(R, C) share of tiles above a threshold a column, (C,), to a hundredth: between percentiles by a line.

        Of fewer than 101 tiles it is exact.
        """
        low = (self.percentiles <= thresholds).sum(axis=1) - 1  # the last percentile that is not above
        shares = np.where(low < 0, 1.0, 0.0)
        within = (low >= 0) & (low < _LEVELS - 1)
        region, column = np.nonzero(within)
        below = low[within]
        a, b = (self.percentiles[region, level, column].astype(float) for level in (below, below + 1))
        shares[within] = 1 - (below + (thresholds[column] - a) / (b - a)) / (_LEVELS - 1)
        for number in range(len(self.regions)):
            if (values := self._values(number)) is not None:
                shares[number] = (values > thresholds).mean(axis=0)
        return shares

    def _values(self, region: int) -> np.ndarray | None:
        """(T, C) the values of a region's tiles in order, column by column; None where percentiles stand for them."""
        known = np.isfinite(self.percentiles[region, :, 0])
        return None if known.all() else self.percentiles[region, known]


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Mapping[str, np.ndarray]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            yield file
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise NslError(f"{path.name} cannot be read ({error}); delete it and run again") from None


def _told(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean and sd of (T, C) values by column, and their percentiles, as `SlideSummary` has them."""
    ordered = np.sort(np.ascontiguousarray(values.T), axis=1)
    mean, sd = mean_and_sd(values)
    mean, sd = mean.astype(np.float32), np.nan_to_num(sd).astype(np.float32)
    if len(values) < _LEVELS:
        padding = np.full((_LEVELS - len(values), ordered.shape[0]), np.inf, np.float32)
        return mean, sd, np.concatenate([ordered.T.astype(np.float32), padding])
    place = np.linspace(0, ordered.shape[1] - 1, _LEVELS)
    low = np.floor(place).astype(int)
    high = np.minimum(low + 1, ordered.shape[1] - 1)
    # In double precision, or a percentile could lie below the one before it. NumPy's takes twice the memory.
    step = (ordered[:, high].astype(float) - ordered[:, low]) * (place - low)
    return mean, sd, (ordered[:, low] + step).astype(np.float32).T
