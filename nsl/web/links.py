"""Which pages there are, and a view in the address: gene, colours and range, never a slide.

An address opened anew brings its view back with the next slide.
"""

import os
from dataclasses import dataclass, field

import streamlit as st
from streamlit.navigation.page import Page

from nsl.slides.folder import VARIABLE
from nsl.web.session import state

# No page writes `from`, so that the app's own links are followed however often one is clicked.
NAMES = ("gene", "genes", "palette", "range", "view", "scale", "from")


def remember() -> None:
    """Keep what the address asks for until a page can show it: a change of page clears the address.

    What a page has written there asks for nothing. It can come back late, when the user has chosen otherwise since.
    """
    asked = {name: st.query_params[name] for name in NAMES if name in st.query_params}
    if asked and frozenset(asked.items()) not in _views().written:
        _views().asked = {name: value for name, value in asked.items() if name != "from"}


def asked(name: str) -> str | None:
    """What the link that was opened asks for; it is asked once."""
    return _views().asked.pop(name, None)


def is_waiting() -> bool:
    """Whether a link was opened that no page has shown yet."""
    return bool(_views().asked)


def write(**view: str) -> None:
    """Put what the page shows into the address; what a link asked for besides is let go."""
    _views().asked = {}
    _views().written.add(frozenset(view.items()))
    if st.query_params.to_dict() != view:
        st.query_params.from_dict(view)


def wait(**view: str) -> None:
    """Put into the address what the page will show once it can; what a link asked for is still asked, there too."""
    asked = _views().asked
    write(**asked | view)
    _views().asked = asked


@dataclass
class _Views:
    asked: dict[str, str] = field(default_factory=dict)
    """What the link that was opened asks for, as far as no page has shown it yet."""
    written: set[frozenset] = field(default_factory=set)  # every view that this session has put into the address


def _views() -> _Views:
    return state.of_session(_Views)


_PAGES = {
    "Predict": ":material/play_circle:",
    "Maps": ":material/map:",
    "Compare": ":material/compare:",
    "Stains": ":material/palette:",
    "Correlations": ":material/grid_on:",
    "Cohort": ":material/collections:",
    "Train": ":material/model_training:",
    "About": ":material/info:",
}


def _pages(*, with_icons: bool = True) -> list[Page]:
    return [
        st.Page(f"pages/{title.lower()}.py", title=title, icon=icon if with_icons else None, default=title == "Predict")
        for title, icon in _PAGES.items()
        # Cohorts lie in the server's folder, and a browser brings none.
        if title != "Cohort" or os.environ.get(VARIABLE, "").strip()
    ]


def navigate() -> Page:
    """Set up the navigation; returns the page to run."""
    shared = state.shared()
    shared.is_inside_app = True
    page = st.navigation(_pages())
    if page.url_path != shared.page:
        shared.page, shared.typed = page.url_path, {}
    return page


def enter() -> None:
    """Called first by every page: start over through app.py where it was left out.

    Streamlit takes a folder named `pages` for its older kind of multipage app until the first call of
    `st.navigation`, so that a server's very first visitor, if sent to a page's own address, gets the bare page.
    """
    if not state.shared().is_inside_app:
        state.shared().is_inside_app = True
        # Where app.py has not set the browser's icon, that of the page would be fetched from afar.
        st.navigation(_pages(with_icons=False))
        st.rerun()
