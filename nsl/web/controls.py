"""Pieces of the interface that pages share."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
import streamlit as st
from PIL import Image
from streamlit.delta_generator import DeltaGenerator

from nsl.errors import NslError
from nsl.numerals import UNKNOWN, count_of
from nsl.result import Provenance, erased_in_words, stain_warning
from nsl.signatures import PREFIX
from nsl.slides.archive import SLIDE_SUFFIXES
from nsl.slides.scale import checked_mpp, require_length
from nsl.stains import HED_VECTORS, PAPER_WHITE, transmitted
from nsl.web import links, sources
from nsl.web.session import server, state
from nsl.web.session.jobs import Job
from nsl.web.session.uploads import MEASURED_TYPES

if TYPE_CHECKING:
    import anndata
    import pandas as pd

Choice = TypeVar("Choice")
NARROW_PX, WIDE_LEAST_PX = 400, 460
# Two of them and a gene are still the name of a file.
LONGEST_STEM = 60
# Room for the symbols of twenty thousand genes. Reading megabytes of them would keep the server busy for minutes.
LONGEST_GENE_LIST = 200_000
# Controls stand in a row that wraps on narrow screens.
CONTROL_PX = 150
# Times what a file says of its scale, from where it is hardly meant.
_FAR_SCALE = 1.5
RESEARCH_ONLY = "For research use only; not a diagnostic device."


_WIDE, _NARROW, _FORM, _BESIDE_FORM = "wide_part", "narrow_part", "form_part", "beside_form_part"
PREVIEW, CARDS, CHOSEN_ROW, NOTE, _HEADING = "preview", "cards", "chosen_row", "note_below_row", "page_heading"
LONG_LIST = "long_list"
# Streamlit leaves a hand's breadth above the title, which on a laptop is a third of a map; squeezes a wide part to
# nothing before it lets it stand alone; cuts short which kinds of files are taken, and in a list as narrow as its box
# how far a set can be trusted; lets genes that are chosen be searched for others, of which there are none; and marks a
# link that has the keyboard's focus hardly at all. Where the screen is low, as of a laptop at 150 %, what stands above
# a map is closer. The bar with the button that opens the sidebar lies over the page: it is no higher than what is left
# free for it.
_BAR = "2.75rem"
_STYLE = f"""<style>
.stMainBlockContainer {{ padding: 1.25rem clamp(1rem, 4vw, 5rem) 4rem; }}
body:has([data-testid="stExpandSidebarButton"]) .stMainBlockContainer {{ padding-top: {_BAR}; }}
:is([data-testid="stHeader"], [data-testid="stToolbar"]) {{ height: {_BAR}; min-height: 0; }}
[data-testid="stHeading"] h1 {{ padding: 0; }}
body:has([class*="st-key-{LONG_LIST}"] [aria-expanded="true"]) [data-testid="stSelectboxVirtualDropdown"] {{
    min-width: min(23rem, calc(100vw - 3rem));
}}
[class*="st-key-{CHOSEN_ROW}"] [data-testid="stMultiSelect"] {{
    [aria-haspopup="listbox"] {{ display: none; }}
    [role="group"] {{ pointer-events: none; }}
    button, [data-tag] {{ pointer-events: auto; }}
}}
.stHorizontalBlock > div:has(> .st-key-{_WIDE}) {{ flex: 1000 1 min(100%, {WIDE_LEAST_PX}px); }}
.stHorizontalBlock > div:has(> .st-key-{_NARROW}) {{ flex: 1 1 min(100%, {NARROW_PX}px); }}
.stHorizontalBlock > div:has(> .st-key-{_BESIDE_FORM}) {{ flex: 1000 1 280px; }}
.stHorizontalBlock > div:has(> .st-key-{_FORM}) {{ flex: 1 1 clamp(240px, 41%, {NARROW_PX}px); }}
[class*="st-key-{CHOSEN_ROW}"] > div:first-child {{ flex: 1 1 190px; }}
[class*="st-key-{CHOSEN_ROW}"] > div:last-child:not(:first-child) {{ flex: 1000 1 345px; }}
.stHorizontalBlock > div:has(> [class*="st-key-{NOTE}"]) {{ order: 1; flex: 1 0 100%; }}
.stHorizontalBlock.st-key-{_HEADING} {{ row-gap: 0; }}
[data-testid="stButtonGroup"] button[data-variant] {{ min-height: 2.5rem; }}
[data-testid="stButtonGroup"] > div:has(> button) {{ flex-wrap: wrap; }}
.st-key-{PREVIEW} img {{ width: auto !important; max-height: max(15rem, calc(100vh - 17rem)); }}
.st-key-{CARDS} img {{ width: auto !important; max-height: max(10rem, calc(100vh - 21rem)); }}
@media (max-height: 640px) {{
  .stMainBlockContainer {{ padding-top: 0.5rem; }}
  .stMainBlockContainer > .stVerticalBlock {{ gap: 0.5rem; }}
  .stMainBlockContainer > .stVerticalBlock > div > .stHorizontalBlock {{ row-gap: 0.25rem; }}
  [data-testid="stHeading"] :is(h2, h3) {{ padding: 0 0 0.5rem; }}
}}
[data-testid="stFileUploaderDropzoneInstructions"] span {{ white-space: normal; }}
[data-testid="stSidebarNavLink"]:focus-visible {{ outline: 2px solid currentColor; }}
</style>"""


def compact() -> None:
    """Less room around a page than Streamlit leaves."""
    st.html(_STYLE)


def heading(title: str) -> DeltaGenerator:
    """A page's title, and what the app is not for; returns a place for badges between them."""
    with st.container(horizontal=True, vertical_alignment="center", key=_HEADING):
        st.title(title, width="content")
        badges = st.container(width="content")
        st.caption(RESEARCH_ONLY, text_alignment="right")
    return badges


def part(title: str) -> DeltaGenerator:
    """A bordered part of a page under a heading of its own."""
    bordered = st.container(border=True)
    bordered.subheader(title)
    return bordered


class Caution(NamedTuple):
    """What to know of a slide and its result before either is read."""

    brief: str
    """In two or three words, which are always seen."""
    sentence: str
    icon: str
    is_grave: bool = True


def cautions(slide: state.SessionSlide, badges: DeltaGenerator, before: str = "") -> DeltaGenerator:
    """One line of cautions that opens, a sentence each; returns the place for more of them in it.

    badges : of `heading`.
    before : Markdown that the line begins with; without it, and without a caution, there is no line.
    """
    with badges:
        synthetic_badge(slide)
    found = cautions_of(slide)
    line = " · ".join(filter(None, [before, *(caution.brief for caution in found)]))
    if not line:
        return st.container()
    place = st.expander(line, icon=":material/warning:" if any(one.is_grave for one in found) else None)
    with place:
        show_cautions(found)
    return place


def show_cautions(found: Sequence[Caution]) -> None:
    """A box for each."""
    for one in found:
        (st.warning if one.is_grave else st.info)(one.sentence, icon=f":material/{one.icon}:")


def favicon() -> Image.Image:
    """A hematoxylin and an eosin square, overlapping. An icon's name would be fetched from afar."""
    od = np.zeros((32, 32, 3))
    od[2:21, 2:21] += 1.2 * HED_VECTORS[0]
    od[11:30, 11:30] += 0.9 * HED_VECTORS[1]
    return Image.fromarray(transmitted(od, PAPER_WHITE))


@contextmanager
def shown_errors() -> Iterator[None]:
    """Show what the user can mend as one sentence; everything they had stays."""
    try:
        yield
    except NslError as error:
        show_error(str(error))


def show_error(message: str) -> None:
    """One sentence, begun with a capital unless it begins with the name of a file or a unit."""
    begins_with_file = re.match(r"([^\s;,:(]+ ){0,2}[^\s;,:(]*\.[a-zA-Z]\w{1,4}\b", message)
    is_word = message[:1].isascii() and not begins_with_file
    st.error(escaped(begun(message) if is_word else message), icon=":material/error:")


def begun(sentence: str) -> str:
    """A sentence with a capital at its start."""
    return sentence[:1].upper() + sentence[1:]


def show_failure(slide: state.SessionSlide) -> None:
    """Why the last run of a slide came to nothing, if it did, or why its result is there no more."""
    if slide.is_crowded_out and not slide.is_running:
        st.info(
            "The result of this slide was let go to make room for others, as the memory for results was full. Run it "
            "again to see it.",
            icon=":material/history:",
        )
    if slide.is_running or slide.job is None or not slide.job.error:
        return
    if slide.job.is_cancelled:
        st.info(f"{begun(slide.job.error)}.", icon=":material/stop_circle:")
    else:
        show_error(slide.by_users_name(slide.job.error))


@state.fragment(run_every=0.5)
def watch_job(job: Job) -> None:
    """Progress of a job with a way to cancel it, until it ends; then the page anew."""
    if not job.is_running:
        st.rerun()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        if job.ahead:
            st.progress(0.0, text=f"Waiting for {count_of(job.ahead, 'other run')} to end")
        else:
            st.progress(job.share, text=_pace(job))
        if st.button("Cancel", icon=":material/stop_circle:", disabled=job.is_cancelled, key=f"cancel {job.key}"):
            job.is_cancelled = True


def _pace(job: Job) -> str:
    if job.is_cancelled:
        return "Cancelling"
    if not job.total:
        return "Beginning"
    left = f" · about {duration(job.seconds_left)} left" if job.seconds_left is not None else ""
    if job.doing:
        return f"{begun(job.doing)}, {job.done:,} of {job.total:,}{left}"
    return f"{job.done:,} of {job.total:,} tiles{left}"


def duration(seconds: float) -> str:
    """A time as it is said: 3 s, 2 min, 1.5 h."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def cautions_of(slide: state.SessionSlide) -> list[Caution]:
    """Doubtful stains, other weights by now, a run cut short, regions alone, tiles erased by hand."""
    found, known = stain_cautions(slide.result), slide.provenance
    if slide.weights is not None and not sources.are_in_use(slide.weights):
        told = f"Predicted with {escaped(slide.weights.name)}; run it again on Predict to use the weights now in use."
        found.append(Caution("other weights", told, "history", is_grave=False))
    if not known.complete:
        told = "The run was cancelled: the tiles below the last one reached are missing."
        found.append(Caution("run cancelled, tiles missing", told, "cut"))
    if known.inside_only:
        told = "Only the tiles inside annotated regions were predicted."
        found.append(Caution("regions alone", told, "polyline", is_grave=False))
    for told in erased_in_words(known):
        found.append(Caution("tiles erased", f"{told} They can be restored on Maps.", "ink_eraser", is_grave=False))
    return found


def stain_cautions(result: "anndata.AnnData") -> list[Caution]:
    """Where the slide may be no H&E, or its stains could not be brought to those that the weights know.

    None of the demo slide, whose stains are the program's own.
    """
    if Provenance.of(result).synthetic:
        return []
    told = {"may be no H&E": Provenance.of(result).slide_doubt, "unusual stains": stain_warning(result)}
    return [
        Caution(brief, f"{sentence} Predictions may mislead.", "palette")
        for brief, sentence in told.items()
        if sentence
    ]


def synthetic_badge(slide: state.SessionSlide) -> None:
    """Mark the demo slide wherever it appears."""
    if slide.synthetic:
        st.badge("Synthetic: made by this program, not from a patient", icon=":material/science:", color="orange")


def in_table(names: "pd.Series") -> "pd.Series":
    """Names as a table on a page has them: of a set its own words."""
    return names.str.removeprefix(PREFIX)


def show_table(
    table: "pd.DataFrame", columns: dict | None = None, *, alt: str, height: int | str = "content", **look
) -> None:
    """A table as it looks on every page, without its index; what is not known is a dash.

    columns : how Streamlit is to show some of them. alt : what a screen reader calls it.
    """
    look = {"hide_index": True, "placeholder": UNKNOWN} | look
    st.dataframe(table, column_config=columns, height=height, alt=alt, **look)


def table_to_mark(
    table: "pd.DataFrame", columns: dict, *, key: str, alt: str, on_mark: Callable[["pd.Series"], None]
) -> None:
    """Some columns of a table; when one of its rows is marked, `on_mark` gets it before the page runs again."""

    def answer() -> None:
        row = marked_row(key, len(table))
        if row is not None:
            on_mark(table.iloc[row])

    look = {"on_select": answer, "selection_mode": "single-row"}
    show_table(table[list(columns)], columns, height=300, key=key, alt=alt, **look)


def marked_row(key: str, rows: int) -> int | None:
    """Which of the rows of a table of this key is marked; None where none is, or where the browser names no row."""
    marked = st.session_state[key]["selection"]["rows"]
    return int(marked[0]) if isinstance(marked, list) and marked and marked[0] in range(rows) else None


def choose_one(label: str, options: Sequence[Choice], key: str, **look) -> Choice:
    """One of a few options side by side, at first the first; what is chosen holds on for the session."""
    kept = {"default": options[0], "required": True, "persist_state": "session"}
    # `required` binds the browser alone.
    return st.segmented_control(label, options, key=key, **kept, **look) or options[0]


def choose_name(label: str, names: Sequence[str], key: str, rest: str = "") -> str:
    """One of a few names in a box, at first the first, also where the one chosen before is gone.

    rest : what the empty name stands for, in words.
    """
    if st.session_state.get(key) not in names:
        st.session_state[key] = names[0]
    # Of so few, none is typed: Enter would take the first that is spelled nearly so.
    look = {"filter_mode": None, "width": CONTROL_PX, "format_func": lambda name: name or begun(rest)}
    return st.selectbox(label, names, key=key, persist_state="session", **look)


def offer_removal(label: str, remove: Callable[..., None], *what, key: str | None = None, **look) -> None:
    """A quiet button that calls `remove` with what is to go.

    key : of a button that others of its label may follow; a click that comes late then removes nothing of theirs.
    """
    st.button(label, on_click=remove, args=what, key=key, icon=":material/close:", type="tertiary", **look)


def type_genes(key: str, **look) -> str:
    """A list of genes as it is pasted or typed."""
    box = st.text_area(
        "Gene symbols",
        placeholder="ERBB2, CD24, COX6C",
        help="Separated by commas, spaces or line breaks; common names such as HER2 are understood.",
        max_chars=LONGEST_GENE_LIST,
        key=key,
        persist_state="session",
        **look,
    )
    return state.typed_text(box)


def offer_measured(label: str, key: str, **look) -> list:
    """Uploaded files of measured data; a file that is brought again stands for the one before of its name."""
    most_mb = server.limits().max_upload_mb
    files = st.file_uploader(
        label, type=MEASURED_TYPES, accept_multiple_files=True, max_upload_size=most_mb, key=key, **look
    )
    return list({file.name: file for file in files}.values())


def file_stem(slide: state.SessionSlide) -> str:
    """The slide's name as part of the name of a file, different for every slide of the session."""
    names = {one.key: one.name for one in state.slides()} | {slide.key: slide.name}
    return dict(zip(names, file_stems(list(names.values())), strict=True))[slide.key]


def file_stems(names: Sequence[str]) -> list[str]:
    """Names of slides without their endings, as files may be named; numbered where an earlier one is the same."""
    stems: list[str] = []
    for name in names:
        plain = _plain_stem(name)
        numbered = (f"{plain}_{number}" for number in range(2, len(names) + 2))
        stems.append(plain if plain not in stems else next(stem for stem in numbered if stem not in stems))
    return stems


def _plain_stem(name: str) -> str:
    path = Path(name)
    stem = path.stem if path.suffix.lower() in (*SLIDE_SUFFIXES, ".zip") else path.name
    return re.sub(r"[^\w-]+|_+", "_", stem).strip("_")[:LONGEST_STEM] or "slide"


def choose_scale(slide: state.SessionSlide) -> float | None:
    """µm per pixel, from the file or the user; never guessed."""
    mpp = st.number_input(
        "Scale, µm per pixel",
        value=slide.seen.mpp,
        min_value=0.0,
        step=0.01,
        format="%.3f",
        placeholder="0.25 for a 40× scan, 0.5 for 20×",
        help="Read from the file where it says so; otherwise ask whoever made the image.",
        key=f"mpp of {slide.key}",
        persist_state="session",
    )
    if mpp is None:
        st.info("This file does not say its scale. Give it to go on: the tiles are measured in micrometres.")
        return None
    with shown_errors():
        require_length(slide.name, slide.seen.size, checked_mpp(mpp))
        width_mm, height_mm = (side * mpp / 1000 for side in slide.seen.size)
        st.caption(f"The image then shows {width_mm:.2f} × {height_mm:.2f} mm.")
        times = mpp / (slide.seen.mpp or mpp)
        if not 1 / _FAR_SCALE < times < _FAR_SCALE:
            st.warning(
                f"The file says {slide.seen.mpp:.3g} µm per pixel: at {mpp:.3g} its tissue is taken to be "
                f"{max(times, 1 / times):.2g} times as {'large' if times > 1 else 'small'}."
            )
        return mpp
    return None


def choose_positions_scale(key: str, help: str, **look) -> float:
    """What turns positions of spots into pixels of the slide."""
    step = {"value": 1.0, "min_value": 0.0, "step": 0.01, "format": "%.4f"}
    return st.number_input("Multiply positions by", key=key, help=help, **step, **look)


def display_part() -> DeltaGenerator:
    """The place for what is seldom chosen anew of how maps are drawn, which opens."""
    return st.popover("Display", icon=":material/tune:", help="How maps are drawn, and what is listed")


def listing_part() -> DeltaGenerator:
    """The same, where there is nothing to choose but which genes are listed."""
    return st.popover("Genes listed", icon=":material/tune:", help="One gene a picture, or every gene")


def choose_opacity() -> float:
    """Opacity of maps over the slide, 0 to 1; what is chosen on one page holds on the others."""
    percent = st.slider("Opacity, %", 0, 100, 70, step=5, key="opacity", persist_state="session", width=CONTROL_PX)
    return percent / 100


def choose_palette() -> str:
    """One of `PALETTES`, that of a link where it asks for one."""
    from nsl.figures.maps import PALETTES

    wished = links.asked("palette")
    if wished in PALETTES:
        st.session_state["palette"] = wished
    return st.selectbox("Colours", PALETTES, key="palette", persist_state="session", width=CONTROL_PX)


def chosen_palette() -> str:
    """That of `choose_palette`, where a page has no room for the choice."""
    from nsl.figures.maps import PALETTES

    chosen = st.session_state.get("palette")
    return chosen if chosen in PALETTES else PALETTES[0]


def offer_outline() -> bool:
    """Whether the edge of the tissue is drawn."""
    return st.checkbox("Outline the tissue", True, key="outline", persist_state="session", width="content")


# Bare addresses become links even where their marks are escaped; a word joiner within, which is not seen, keeps them
# text.
_ADDRESS = re.compile(r"https?(?=\\?:)|www(?=\.)|@(?=[\w-]+\.\w)", re.IGNORECASE)


def escaped(text: str) -> str:
    """A user's text as Markdown shows it letter by letter, on one line and without becoming a link."""
    marked = "".join(f"\\{c}" if c in r"\`*_[]<$:~#|" else c for c in " ".join(text.splitlines()))
    return _ADDRESS.sub("\\g<0>\u2060", marked)


def file_size(size_bytes: int) -> str:
    """As files are listed: 3 kB, 12 MB, 1.4 GB."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= scale:
            return f"{size_bytes / scale:.{1 if scale == 1e9 else 0}f} {unit}"
    return f"{size_bytes} bytes"


def side_by_side(*, wide_first: bool = False) -> tuple[DeltaGenerator, DeltaGenerator]:
    """Two parts beside each other, one below the other where the page is narrow; in the order they are read.

    A page has at most one such pair.
    """
    with st.container(horizontal=True, gap="medium"):
        if wide_first:
            return st.container(width="stretch", key=_WIDE), st.container(width=NARROW_PX, key=_NARROW)
        return st.container(width=NARROW_PX, key=_FORM), st.container(width="stretch", key=_BESIDE_FORM)
