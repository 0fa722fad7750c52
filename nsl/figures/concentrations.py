"""Where a gene's model sees its two learned stains in a region, as a Plotly figure."""

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from nsl.figures import images
from nsl.figures.stains import SWATCH_OD
from nsl.figures.style import BAR_PX, MARGIN_PX, STAIN_COLORS, color_bar, plain
from nsl.stains import PAPER_WHITE
from nsl.weights.interpretation import STAINS, display_colors

# Of each of three panels on a page as wide as a laptop's; and how much taller than wide one may be.
_PANEL_WIDTH_PX, _MAX_TALLNESS = 290, 1.6
# Room for an axis below a panel, and for a colour bar, set close, with its title above one.
_BELOW_PANEL_PX, _ABOVE_PANEL_PX = 34, BAR_PX - 6


def concentration_figure(
    rgb: np.ndarray,
    concentrations: np.ndarray,
    mpp: float,
    *,
    vectors: np.ndarray,
    white_point: np.ndarray = PAPER_WHITE,
    names: tuple[str, str] = STAINS,
) -> go.Figure:
    """A region, and where two stains lie in it, those that a gene's model learned or others; they zoom together.

    rgb : (H, W, 3) uint8, the region.
    concentrations : (H, W, 2) of `nsl.weights.interpretation.concentration_images` or `amount_images`.
    mpp : µm/px of the region; axes are in µm from its top left.
    vectors : (2, 3) of the stains, whose colours the scales run to.
    white_point : (3,) intensity of the slide's background.
    names : of the stains.
    """
    height_um, width_um = (side * mpp for side in rgb.shape[:2])
    panel_px = _PANEL_WIDTH_PX * min(height_um / width_um, _MAX_TALLNESS)
    place = {"x0": mpp / 2, "dx": mpp, "y0": mpp / 2, "dy": mpp}
    figure = make_subplots(cols=3, horizontal_spacing=0.06, subplot_titles=["H&E", *names])
    figure.update_annotations(yshift=_ABOVE_PANEL_PX)
    figure.add_image(source=images.png(rgb), hoverinfo="skip", row=1, col=1, **place)
    for s, stain in enumerate(names):
        axis = f"coloraxis{s + 1}"
        values = concentrations[..., s].astype(np.float32)
        figure.add_heatmap(
            z=values,
            coloraxis=axis,
            hoverongaps=False,
            hovertemplate=f"{stain} %{{z:.2f}}<br>x %{{x:.0f}} µm, y %{{y:.0f}} µm<extra></extra>",
            row=1,
            col=s + 2,
            **place,
        )
        left, right = figure.layout[f"xaxis{s + 2}"].domain
        bar = color_bar("learned stain concentration", left, right - left) | {"ypad": 2}
        scale = _stain_scale(vectors[s], white_point, STAIN_COLORS[s])
        figure.layout[axis] = {"colorscale": scale, "cmin": 0, "cmax": _upper_end(values), "colorbar": bar}
    above_px = 3 * MARGIN_PX + _ABOVE_PANEL_PX
    plain(figure, above_px + round(panel_px) + _BELOW_PANEL_PX)
    figure.update_layout(margin_t=above_px, margin_b=_BELOW_PANEL_PX)
    axis = {"showgrid": False, "zeroline": False, "nticks": 4, "constrain": "domain", "automargin": True}
    axis |= {"ticksuffix": " µm", "showticksuffix": "last"}
    figure.update_xaxes(range=[0, width_um], matches="x", **axis)
    figure.update_yaxes(range=[height_um, 0], matches="y", constraintoward="top", **axis)
    figure.update_yaxes(scaleanchor="x", col=1)
    for col in (2, 3):
        figure.update_yaxes(showticklabels=False, col=col)
    figure.update_layout(uirevision="concentrations")
    return figure


def _upper_end(values: np.ndarray) -> float:
    """Where a scale from 0 ends: few pixels lie beyond; 1 where there is nothing but 0."""
    known = values[np.isfinite(values)]
    return float(np.percentile(known, 99.5)) or 1.0 if known.size else 1.0


def _stain_scale(vector: np.ndarray, white_point: np.ndarray, otherwise: str) -> list[str]:
    """Colours from glass to a stain at 2 OD; to `otherwise` for a vector that absorbs nothing on the whole."""
    if not np.sum(vector) > 0:
        return ["#ffffff", otherwise]
    return [f"#{bytes(color).hex()}" for color in display_colors(vector, white_point, np.linspace(0, SWATCH_OD, 9))]
