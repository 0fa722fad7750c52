"""Maps as pictures to print: H&E, map, scale bar, colour bar, and what the map is worth."""

import datetime
import io
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import anndata
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from nsl.errors import NslError
from nsl.figures.compare import DIFFERENCES, DIVERGING, difference_of, difference_title
from nsl.figures.maps import PALETTES, on_grid, preview, window_mm
from nsl.figures.regions import MOST_NAMED, named_places, rgb_of
from nsl.numerals import signed
from nsl.result import Provenance, SlidePicture, caveats, map_of
from nsl.signatures import counted, short_names, spoken, unit_of
from nsl.slides.annotations.region import Region, rings_of
from nsl.tiles import TileGrid
from nsl.weights.reliability import another, has_held_up, trust_in_map

PURPOSE = "Research use only; no map replaces a receptor test."
"""Stands on everything that is printed."""
# An A4 page is 297 mm high, and the text around the slide and a caption want their share.
MAX_SLIDE_MM = 220.0
_MM_PER_INCH = 25.4
_MARGIN_MM, _GAP_MM, _LEGEND_MM, _BAR_MM = 3.0, 2.5, 12.0, 3.0
_TITLE_PT, _TEXT_PT, _SMALL_PT = 12.0, 8.5, 7.0
# In sizes of the type; the width is on the safe side of DejaVu Sans, with its wide digits; its bold type is wider.
_LINE_HEIGHT, _CHARACTER_WIDTH, _BOLD = 1.4, 0.6, 1.25
# Of a checksum, so many digits tell two slides or two weights apart.
_DIGITS = 12
# Letters of a gene's or set's name over a colour bar.
_LONGEST_NAME = 20
# Of the height of the map, how far below its upper edge a region's name stands.
_NAME_BELOW = 0.006
_BLACK, _GREY, _WARNING = "#000000", "#444444", "#a03000"


def map_png(
    result: anndata.AnnData,
    gene: str,
    *,
    limits: tuple[float, float],
    palette: str = "Viridis",
    opacity: float = 0.7,
    dpi: int = 300,
    width_mm: float = 180,
    slide_name: str | None = None,
    regions: Sequence[Region] = (),
    made_on: datetime.date | None = None,
) -> bytes:
    """One gene over the part of the slide that has tiles, as a PNG that prints `width_mm` wide.

    The default is two columns of a journal. Tiles that overlap are drawn as the step between them, so that none hides
    another.

    limits : values at the ends of the colour scale; beyond them the end colours are kept and the bar is pointed.
    palette : one of `nsl.figures.maps.PALETTES`.
    opacity : of the map over the slide, 0 to 1.
    dpi : pixels per inch, also written into the file.
    width_mm : printed width, at least 60. The height follows that of the part shown, which is kept to 220 mm.
    slide_name : stands under the map, with the slide's checksum; the checksum alone if not given.
    regions : to outline in their colours, with their names.
    made_on : the date under the map; today if not given.

    Raises NslError: the result has no such gene, there is no such palette, the limits are not two rising numbers, or
        the opacity or the width is out of range.
    """
    drawing = _drawing(result, gene, limits, palette, opacity, width_mm)
    return _printed(result, drawing, spoken(gene), [gene], dpi, width_mm, _origin(result, slide_name, made_on), regions)


def difference_png(
    result: anndata.AnnData,
    gene_a: str,
    gene_b: str,
    *,
    by: str = DIFFERENCES[0],
    opacity: float = 0.7,
    dpi: int = 300,
    width_mm: float = 180,
    slide_name: str | None = None,
    regions: Sequence[Region] = (),
    made_on: datetime.date | None = None,
) -> bytes:
    """Gene A less gene B over the slide, as `nsl.figures.compare.difference_map` draws it, to print as `map_png` does.

    Raises NslError: of `map_png`, and where a gene is the same everywhere.
    """
    _check(result, [gene_a, gene_b], (0, 1), opacity, width_mm)
    values, limits, _ = difference_of(result, gene_a, gene_b, by)
    a, b = short_names([gene_a, gene_b], _LONGEST_NAME)
    name, title = f"{spoken(gene_a)} less {spoken(gene_b)}", difference_title(a, b, by)
    # Left of it is the scale bar.
    if len(_wrapped(title, _TEXT_PT, 0.6 * width_mm)) > 1:
        name, title = f"{name}, in {by}", f"← {b} · {a} →"
    drawing = _Drawing(values, limits, colormaps[DIVERGING], opacity, title)
    origin = _origin(result, slide_name, made_on)
    return _printed(result, drawing, name, [gene_a, gene_b], dpi, width_mm, origin, regions)


def panel_png(
    result: anndata.AnnData,
    gene: str,
    *,
    limits: tuple[float, float],
    palette: str = "Viridis",
    opacity: float = 0.7,
    dpi: int = 200,
    width_mm: float = 96,
    most_mm: float = 70,
    regions: Sequence[Region] = (),
) -> bytes:
    """One gene over the part of the slide that has tiles, with its scale bar and colour bar and without words.

    For a page that says the rest; the slide's height is kept to `most_mm`, regions are outlined without names, and all
    else is as in `map_png`.
    """
    drawing = _drawing(result, gene, limits, palette, opacity, width_mm)
    sheet, axes = _sheet_of_slide(window_mm(result) * 1000, width_mm, most_mm, dpi, has_scale=True)
    _draw_slide(axes, SlidePicture.of(result), SlidePicture.of(result).rgb)
    _draw_map(axes, result, drawing)
    _draw_regions(axes, regions, Provenance.of(result).mpp, are_named=False)
    _draw_color_bar(sheet, sheet.height_mm - _MARGIN_MM - _LEGEND_MM, drawing, width_mm=width_mm / 2)
    return sheet.png({"Title": gene})


def overview_png(
    result: anndata.AnnData,
    *,
    regions: Sequence[Region] = (),
    dpi: int = 200,
    width_mm: float = 96,
    most_mm: float = 62,
) -> bytes:
    """The whole slide with its scale bar, paler where no tile was predicted; regions are outlined in their colours."""
    known, picture = Provenance.of(result), SlidePicture.of(result)
    width_um, height_um = picture.size_um
    sheet, axes = _sheet_of_slide(np.array([[0, width_um], [0, height_um]]), width_mm, most_mm, dpi, has_scale=False)
    grid = TileGrid(
        known.tile_um,
        known.stride_um,
        known.mpp,
        *(result.obs[axis].to_numpy() for axis in ("array_row", "array_col")),
    )
    drawn = preview(picture.rgb, grid, np.ones(len(grid), bool), round(picture.rgb.shape[1] / picture.scale))
    _draw_slide(axes, picture, drawn)
    _draw_regions(axes, regions, known.mpp)
    return sheet.png({"Title": "H&E"})


def weights_in_words(known: Provenance) -> str:
    """Which weights: their name, where they are from, and the start of their checksum."""
    pinned = known.weights_revision != known.weights_source
    source = known.weights_source + (f" at {known.weights_revision[:_DIGITS]}" if pinned else "")
    own = "" if source == known.weights_id else f"{source}, "
    return f"{known.weights_id} ({own}SHA-256 {known.weights_sha256[:_DIGITS]})"


def slide_in_words(known: Provenance, name: str | None) -> str:
    """Which slide: its name where it has one, and the start of its checksum."""
    digest = f"SHA-256 {known.slide_sha256[:_DIGITS]}"
    return f"{name} ({digest})" if name else digest


def date_in_words(made_on: datetime.date | None) -> str:
    """A date as 26 November 2026; today's if not given."""
    made_on = made_on or datetime.date.today()
    return f"{made_on.day} {made_on:%B %Y}"


def _origin(result: anndata.AnnData, slide_name: str | None, made_on: datetime.date | None) -> str:
    """Slide, weights and date in a line."""
    known = Provenance.of(result)
    slide, weights = slide_in_words(known, slide_name), weights_in_words(known)
    return f"Slide {slide}, weights {weights}, NSL {known.version}, {date_in_words(made_on)}."


@dataclass(frozen=True)
class _Drawing:
    values: np.ndarray  # (T,)
    limits: tuple[float, float]
    colors: Colormap
    opacity: float
    unit: str


def _drawing(result, gene: str, limits, palette: str, opacity: float, width_mm: float) -> _Drawing:
    if palette not in PALETTES:
        raise NslError(f"there is no palette {palette!r}; choose from {', '.join(PALETTES)}")
    _check(result, [gene], limits, opacity, width_mm)
    # As Matplotlib spells Plotly's names.
    return _Drawing(map_of(result, gene), limits, colormaps[palette.lower()], opacity, unit_of(gene))


def _printed(
    result: anndata.AnnData,
    drawing: _Drawing,
    name: str,
    genes: list[str],
    dpi: int,
    width_mm: float,
    origin: str,
    regions: Sequence[Region],
) -> bytes:
    inner_mm = width_mm - 2 * _MARGIN_MM
    title = _wrapped(name, _TITLE_PT * _BOLD, inner_mm)
    known = [(f"{spoken(gene)}: " if len(genes) > 1 else "") + _reliability(result, gene) for gene in genes]
    header = _wrapped("; ".join(known), _TEXT_PT, inner_mm)
    said = " ".join([PURPOSE, "Predicted from colour.", *caveats(result), origin])
    footer = _wrapped(said, _SMALL_PT, inner_mm)
    picture = SlidePicture.of(result)
    window_um = window_mm(result) * 1000
    slide_um = np.ptp(window_um, axis=1)
    slide_mm = slide_um * min(inner_mm / slide_um[0], MAX_SLIDE_MM / slide_um[1])

    header_top = _MARGIN_MM + _height_mm(_TITLE_PT, len(title))
    slide_top = header_top + _height_mm(_TEXT_PT, len(header)) + 1
    legend_top = slide_top + slide_mm[1] + _GAP_MM
    footer_top = legend_top + _LEGEND_MM
    sheet = _Sheet.of_size(width_mm, footer_top + _height_mm(_SMALL_PT, len(footer)) + _MARGIN_MM, dpi)

    sheet.text(_MARGIN_MM, _MARGIN_MM, title, _TITLE_PT, weight="bold")
    color = _BLACK if has_held_up(result.var.loc[genes]).all() else _WARNING
    sheet.text(_MARGIN_MM, header_top, header, _TEXT_PT, color=color)
    axes = sheet.axes(_MARGIN_MM, slide_top, *slide_mm)
    _show_window(axes, window_um)
    _draw_slide(axes, picture, picture.rgb)
    _draw_map(axes, result, drawing)
    _draw_regions(axes, regions, Provenance.of(result).mpp)
    _draw_scale_bar(sheet, legend_top, slide_mm[0] / slide_um[0], longest_mm=slide_mm[0] / 4)
    _draw_color_bar(sheet, legend_top, drawing, width_mm=inner_mm / 2)
    sheet.text(_MARGIN_MM, footer_top, footer, _SMALL_PT, color=_GREY)
    return sheet.png({"Title": f"{name}, predicted from colour", "Software": f"NSL {Provenance.of(result).version}"})


def _check(result, genes, limits, opacity, width_mm) -> None:
    for gene in genes:
        if gene not in result.var_names:
            raise NslError(
                f"{gene} is not among the {counted(result.var_names)} of this result; choose one that was predicted"
            )
    if not (np.isfinite(limits).all() and limits[0] < limits[1]):
        raise NslError(f"a colour scale cannot run from {limits[0]:g} to {limits[1]:g}; give two rising numbers")
    if not 0 <= opacity <= 1:
        raise NslError(f"the opacity must lie between 0 and 1, got {opacity:g}; 0.7 is usual")
    if not 60 <= width_mm <= 1000:
        raise NslError(f"a picture {width_mm:g} mm wide cannot be drawn; give 60 to 1,000 mm")


@dataclass(frozen=True)
class _Sheet:
    """A figure on which things are placed in millimetres from its top left corner."""

    figure: Figure
    width_mm: float
    height_mm: float

    @classmethod
    def of_size(cls, width_mm: float, height_mm: float, dpi: int) -> "_Sheet":
        # Figure and canvas alone, never pyplot: this runs in threads of a server.
        figure = Figure((width_mm / _MM_PER_INCH, height_mm / _MM_PER_INCH), dpi=dpi, facecolor="white")
        FigureCanvasAgg(figure)
        return cls(figure, width_mm, height_mm)

    def axes(self, x_mm: float, y_mm: float, width_mm: float, height_mm: float) -> Axes:
        bottom = 1 - (y_mm + height_mm) / self.height_mm
        place = (x_mm / self.width_mm, bottom, width_mm / self.width_mm, height_mm / self.height_mm)
        return self.figure.add_axes(place)

    def text(self, x_mm: float, y_mm: float, lines: list[str], size_pt: float, **style) -> None:
        """Lines of text whose first has its top at y_mm."""
        style = {"color": _BLACK, "va": "top", "linespacing": _LINE_HEIGHT} | style
        # A gene's name is no formula, whatever it holds.
        at = (x_mm / self.width_mm, 1 - y_mm / self.height_mm)
        self.figure.text(*at, "\n".join(lines), size=size_pt, parse_math=False, **style)

    def png(self, about: dict[str, str]) -> bytes:
        canvas = self.figure.canvas
        canvas.draw()
        notes = PngInfo()
        for key, value in about.items():
            notes.add_itxt(key, value)
        buffer, dpi = io.BytesIO(), self.figure.dpi
        # Without the transparency that journals refuse.
        picture = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
        picture.save(buffer, "PNG", dpi=(dpi, dpi), pnginfo=notes)
        return buffer.getvalue()


def _sheet_of_slide(
    window_um: np.ndarray, width_mm: float, most_mm: float, dpi: int, *, has_scale: bool
) -> tuple[_Sheet, Axes]:
    """A sheet of a part of the slide, (left, right) and (top, bottom), with its scale bar and room for a colour bar."""
    size_um, inner_mm = np.ptp(window_um, axis=1), width_mm - 2 * _MARGIN_MM
    size_mm = size_um * min(inner_mm / size_um[0], most_mm / size_um[1])
    legend_top = _MARGIN_MM + size_mm[1] + _GAP_MM
    legend_mm = _LEGEND_MM if has_scale else _BAR_MM / 3 + 1 + _height_mm(_TEXT_PT, 1)
    sheet = _Sheet.of_size(width_mm, legend_top + legend_mm + _MARGIN_MM, dpi)
    axes = sheet.axes(_MARGIN_MM, _MARGIN_MM, *size_mm)
    _show_window(axes, window_um)
    _draw_scale_bar(sheet, legend_top, size_mm[0] / size_um[0], longest_mm=max(size_mm[0] / 4, inner_mm / 8))
    return sheet, axes


def _show_window(axes: Axes, window_um: np.ndarray) -> None:
    (left, right), (top, bottom) = window_um
    axes.set_axis_off()
    axes.set(xlim=(left, right), ylim=(bottom, top), autoscale_on=False)


def _draw_slide(axes: Axes, picture: SlidePicture, rgb: np.ndarray) -> None:
    width, height = picture.size_um
    axes.imshow(rgb, extent=(0, width, height, 0), aspect="auto")


def _draw_map(axes: Axes, result, drawing: _Drawing) -> None:
    known = Provenance.of(result)
    grid = on_grid(result, drawing.values)
    step, first = known.stride_um, (known.tile_um - known.stride_um) / 2
    right, bottom = first + step * grid.shape[1], first + step * grid.shape[0]
    colors = {"cmap": drawing.colors, "vmin": drawing.limits[0], "vmax": drawing.limits[1], "alpha": drawing.opacity}
    axes.imshow(grid, extent=(first, right, bottom, first), interpolation="nearest", aspect="auto", **colors)


def _draw_regions(axes: Axes, regions: Sequence[Region], mpp: float, *, are_named: bool = True) -> None:
    for region in regions:
        for ring in rings_of(region):
            for color, width_pt in (("white", 2.2), (np.array(rgb_of(region)) / 255, 1.2)):
                axes.plot(*(ring * mpp).T, color=color, linewidth=width_pt)
    if are_named and len(regions) <= MOST_NAMED:
        halo = [withStroke(linewidth=1.5, foreground="white")]
        look = {"size": _SMALL_PT, "va": "top", "parse_math": False, "clip_on": True}
        window = np.array([axes.get_xlim(), axes.get_ylim()[::-1]])
        for name, x, y, side in named_places(regions, mpp, window):
            y += _NAME_BELOW * np.ptp(window[1])
            axes.text(x, y, name, ha=side, color=_BLACK, path_effects=halo, **look)


def _draw_scale_bar(sheet: _Sheet, top_mm: float, mm_per_um: float, longest_mm: float) -> None:
    length_um = _round_length(longest_mm / mm_per_um)
    axes = sheet.axes(_MARGIN_MM, top_mm, length_um * mm_per_um, _BAR_MM / 3)
    axes.set_axis_off()
    axes.add_patch(Rectangle((0, 0), 1, 1, transform=axes.transAxes, color=_BLACK, linewidth=0))
    label = f"{length_um / 1000:g} mm" if length_um >= 1000 else f"{length_um:g} µm"
    sheet.text(_MARGIN_MM, top_mm + _BAR_MM / 3 + 1, [label], _TEXT_PT)


def _round_length(longest_um: float) -> float:
    """The longest of 1, 2 and 5 times a power of ten that is not longer."""
    power = 10.0 ** math.floor(math.log10(longest_um))
    return max(factor * power for factor in (1, 2, 5) if factor * power <= longest_um)


def _draw_color_bar(sheet: _Sheet, top_mm: float, drawing: _Drawing, *, width_mm: float) -> None:
    values, limits = drawing.values, drawing.limits
    beyond = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}
    extend = beyond[bool(values.min() < limits[0]), bool(values.max() > limits[1])]
    left = sheet.width_mm - _MARGIN_MM - width_mm
    sheet.text(sheet.width_mm - _MARGIN_MM, top_mm, [drawing.unit], _TEXT_PT, ha="right")
    axes = sheet.axes(left, top_mm + _height_mm(_TEXT_PT, 1), width_mm, _BAR_MM)
    # As they look at their opacity over white.
    colors = ListedColormap(1 - drawing.opacity * (1 - drawing.colors(np.linspace(0, 1, 256))[:, :3]))
    scale = ScalarMappable(Normalize(*limits), colors)
    bar = sheet.figure.colorbar(scale, cax=axes, orientation="horizontal", extend=extend)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=_SMALL_PT, length=2, width=0.5, pad=1.5, color=_BLACK, labelcolor=_BLACK)


def _reliability(result, gene: str) -> str:
    row = result.var.loc[gene]
    trust = trust_in_map(result, gene)
    mark = f" · {trust.told}"
    if not np.isfinite(row.r_heldout):
        return f"held-out r unknown{mark}"
    interval = ""
    if np.isfinite(row.r_next_low):
        next_one = f"{signed(row.r_next_low)} to {signed(row.r_next_high)}"
        interval = f", in {another(Provenance.of(result).heldout_left_out)} {next_one} (95 %)"
    elif np.isfinite(row.r_low):
        interval = f", 95 % interval of the mean {signed(row.r_low)} to {signed(row.r_high)}"
    return f"held-out r {signed(row.r_heldout)}{interval}{mark}"


def _wrapped(text: str, size_pt: float, width_mm: float) -> list[str]:
    return textwrap.wrap(text, int(width_mm / (_CHARACTER_WIDTH * size_pt * _MM_PER_INCH / 72)))


def _height_mm(size_pt: float, lines: int) -> float:
    return lines * _LINE_HEIGHT * size_pt * _MM_PER_INCH / 72
