"""The slide under a map, as fine as what is in view asks for: read from its file, and no more than the view shows."""

import numpy as np
import streamlit as st

from nsl.errors import NslError
from nsl.figures import images
from nsl.result import SlidePicture
from nsl.web import chart
from nsl.web.session import state

MOST_PX = 1_600
"""The longer side of a picture that is read for a view."""
# Of one level, to be decoded for a view: half a second on two cores.
_MOST_DECODED_PX = 40e6
# The picture that a result brings serves until the screen could show so much more.
_WORTH_READING = 1.25


def zoom(slide: state.SessionSlide, key: str, axes: tuple[str, ...]) -> chart.Zoom:
    """For panels of a slide in the chart of this key, with the picture that its view asks for."""
    view = chart.views(key).get(axes[0])
    return chart.Zoom(axes, slide.provenance.mpp, view and _detail(slide, view))


def _detail(slide: state.SessionSlide, view: chart.View) -> chart.Detail | None:
    """The part of the slide in view, in mm; None where the result's own picture serves, or the file is gone."""
    picture, mpp = SlidePicture.of(slide.result), slide.provenance.mpp
    right_um, bottom_um = (side * mpp for side in slide.seen.size)
    x0, x1 = np.clip([1000 * view.left, 1000 * view.right], 0, right_um)
    y0, y1 = np.clip([1000 * view.top, 1000 * view.bottom], 0, bottom_um)
    if min(x1 - x0, y1 - y0) < mpp:
        return None
    on_screen_mpp = 1000 * (view.right - view.left) / view.width_px
    read_mpp = _readable_mpp(slide, max(on_screen_mpp, max(x1 - x0, y1 - y0) / MOST_PX, mpp))
    if (
        read_mpp * _WORTH_READING > picture.mpp
        or _decoded_px(slide, (x1 - x0) * (y1 - y0), read_mpp) > _MOST_DECODED_PX
    ):
        return None
    try:
        source = _read(slide.run, tuple(float(um / mpp) for um in (x0, y0, x1 - x0, y1 - y0)), read_mpp, slide)
    except NslError:
        return None
    return chart.Detail(source, *(float(um) / 1000 for um in (x0, y0, x1 - x0, y1 - y0)))


def _readable_mpp(slide: state.SessionSlide, wanted_mpp: float) -> float:
    """µm/px to read at: what is wanted, or that of the next level where it is near; a far finer one takes long."""
    levels_mpp = [slide.provenance.mpp * downsample for downsample in slide.seen.levels]
    coarser = [level_mpp for level_mpp in levels_mpp if wanted_mpp < level_mpp < 2 * wanted_mpp]
    return min(coarser, default=wanted_mpp)


def _decoded_px(slide: state.SessionSlide, area_um2: float, read_mpp: float) -> float:
    mpp = slide.provenance.mpp
    level = max(one for one in slide.seen.levels if one == 1 or one * mpp <= read_mpp * 1.001)
    return area_um2 / (level * mpp) ** 2


@st.cache_data(max_entries=8, scope="session", show_spinner=False)
def _read(run: str, box_px: tuple[float, float, float, float], read_mpp: float, _slide: state.SessionSlide) -> str:
    with _slide.open() as opened:
        return images.jpeg(opened.read(*box_px, read_mpp))
