"""Runs of the app that were made before are answered from memory, so that each test can bring and predict its slide."""

import functools

import anndata

import nsl.prediction
from nsl.errors import Cancelled, NslError
from nsl.system.progress import SILENT
from tests import shared_work

anew = nsl.prediction.predict
"""For a test that looks at a run while it goes on."""
_known: dict[tuple, anndata.AnnData | NslError] = {}


class _Cut(Exception):
    """Carries the part that a cancelled run came to, which is no answer to others."""


def predict(slide, weights, *, genes=None, **settings) -> anndata.AnnData:
    """What `nsl.predict` gives or refuses, made once for all runs of the same slide, weights and settings."""
    progress = settings.pop("progress", SILENT)
    key = (
        slide.sha256,
        slide.mpp,
        slide.is_converted,
        weights.sha256,
        genes and tuple(genes),
        *sorted(settings.items()),
    )
    if key not in _known:
        run = functools.partial(anew, slide, weights, genes=genes, progress=progress, **settings)
        try:
            _known[key] = shared_work.once(key, functools.partial(_outcome, run))
        except _Cut as cut:
            return cut.args[0]
    if isinstance(_known[key], NslError):
        raise _known[key]
    return _known[key].copy()


def _outcome(run) -> anndata.AnnData | NslError:
    try:
        result = run()
    except Cancelled:
        raise
    except NslError as error:
        return error
    if not result.uns["nsl"]["complete"]:
        raise _Cut(result)
    return result
