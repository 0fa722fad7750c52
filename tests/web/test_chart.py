"""What `nsl.web.chart` needs of the browser's plotly.js."""

import re

from plotly.offline import get_plotlyjs_version

from nsl.web.chart import PLOTLY


def test_the_browsers_plotly_is_the_one_that_figures_are_made_for():
    told = re.match(r"/\* plotly\.js (\S+),", PLOTLY.read_text(encoding="utf-8"))
    assert told[1] == get_plotlyjs_version(), f"make it anew as {PLOTLY.with_name('bundle.js')} says"
