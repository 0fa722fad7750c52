"""A visitor who sends what no browser would: bad files under made-up ids, values no widget has; and leaves midway."""

from __future__ import annotations

import random
import time
import urllib.error
from collections import Counter
from urllib.request import Request, urlopen

from google.protobuf.message import DecodeError
from streamlit.proto.BackMsg_pb2 import BackMsg
from websockets.exceptions import WebSocketException

from tests.hostile.cases import CASES, SLOW
from tests.visitor import Visitor, visiting

IDS = ("", ".", "..", "../..", "/etc", "%2e%2e", "../nsl-other", "a\0b", "x" * 300, "a__b", "demo", "\u202e\U0001f642")
"""Of uploads, as a visitor may choose them."""
NAMES = (
    "a.svs",
    "CON",
    "../../app.py",
    "x" * 300 + ".tif",
    "a\u202efit.png",
    "http://evil.example/a.png",
    ".",
    "<b>.png",
)
PAGES = ("predict", "maps", "correlations", "stains", "compare", "train", "cohort", "about", "nowhere", "../app")
QUERIES = ("", "gene=ERBB2", "gene=" + "x" * 10_000, "gene=<script>", "slide=../../etc/passwd", "gene=%00&gene=%ff")
_FILES = [case for name, case in CASES.items() if name.partition(", ")[2] not in SLOW]
_SECONDS_BETWEEN = 0.2
# What a server may answer to such a visitor, or the visitor meets because it was sent away.
_SENT_AWAY = (WebSocketException, OSError, TimeoutError, urllib.error.HTTPError, DecodeError, StopIteration)


class Hostility:
    """One visitor after the other, until it is asked to end."""

    def __init__(self, address: str, seed: int = 0) -> None:
        self._address, self._chance = address, random.Random(seed)
        self.deeds: Counter[str] = Counter()
        """How often each thing was done."""
        self.sent_away: Counter[str] = Counter()
        self.errors = 0
        """That its pages showed, without a word of the server's."""

    def visit_until(self, ends: float) -> None:
        """Come again and again, with one to six deeds a visit, until time.monotonic() is past `ends`."""
        while time.monotonic() < ends:
            try:
                with visiting(self._address) as visitor:
                    for _ in range(self._chance.randint(1, 6)):
                        deed = self._chance.choice(_DEEDS)
                        self.deeds[deed.__name__.strip("_")] += 1
                        deed(self, visitor)
                        self.errors += len(visitor.all("exception"))
                        time.sleep(_SECONDS_BETWEEN)
            except _SENT_AWAY as error:
                self.sent_away[type(error).__name__] += 1

    def _bring_a_file(self, visitor: Visitor) -> None:
        """To any uploader of the page, whatever that is for."""
        uploaders, case = visitor.all("file_uploader"), self._chance.choice(_FILES)
        if uploaders:
            label = self._chance.choice(uploaders).label
            name = self._chance.choice((case.name, *NAMES)).replace("\0", "")
            visitor.upload(label, self._chance.choice(IDS), name, case.content())

    def _say_that_a_file_is_there(self, visitor: Visitor) -> None:
        """Of which nothing was sent, or which is another session's."""
        for uploader in visitor.all("file_uploader"):
            info = {"file_id": self._chance.choice(IDS), "name": self._chance.choice(NAMES), "size": 2**62}
            visitor.change(id=uploader.id, file_uploader_state_value={"uploaded_file_info": [info]})

    def _set_a_widget(self, visitor: Visitor) -> None:
        """To a value of a kind and size that it never has."""
        kinds = (
            "button",
            "selectbox",
            "multiselect",
            "number_input",
            "slider",
            "text_input",
            "radio",
            "bidi_component",
        )
        widgets = [widget for kind in kinds for widget in visitor.all(kind)]
        values = (
            {"double_value": float("nan")},
            {"double_value": -1e308},
            {"int_value": 2**62},
            {"string_value": "\u202e" * 1000},
            {"string_array_value": {"data": ["nothing"] * 1000}},
            {"double_array_value": {"data": [float("inf")] * 9}},
            {"json_value": '{"tile": [1e999, null], "view": "x"}'},
            {"json_trigger_value": "[" * 500},
            {"bytes_value": b"\xff" * 1000},
        )
        if widgets:
            visitor.change(id=self._chance.choice(widgets).id, **self._chance.choice(values))

    def _look_elsewhere(self, visitor: Visitor) -> None:
        """At a page that is none, or with words in its address that no link has."""
        page, query = self._chance.choice(PAGES), self._chance.choice(QUERIES)
        visitor.send(BackMsg(rerun_script={"page_name": page, "query_string": query}))

    def _ask_of_the_server(self, visitor: Visitor) -> None:
        """What a browser may: forget all caches, stop the script, tell of its repository, and files of others."""
        visitor.send(BackMsg(clear_cache=True))
        visitor.send(BackMsg(stop_script=True))
        visitor.send(BackMsg(load_git_info=True))
        for path in (
            "media/" + "0" * 56,
            "_stcore/metrics",
            "_stcore/upload_file/nobody/..",
            "app/static/../../app.py",
        ):
            method = "DELETE" if "upload" in path else "GET"
            urlopen(Request(f"{self._address}/{path}", method=method), timeout=10).read()

    def _run_and_leave(self, visitor: Visitor) -> None:
        """Begin a run of all genes and be gone before it has come to anything."""
        visitor.press("Use the demo slide")
        visitor.press("Run")
        raise TimeoutError

    def _send_noise(self, visitor: Visitor) -> None:
        """Bytes that are no message."""
        visitor.send_bytes(self._chance.randbytes(self._chance.choice((0, 1, 100, 100_000))))


_DEEDS = (
    *[Hostility._bring_a_file] * 4,
    *[Hostility._set_a_widget] * 4,
    Hostility._say_that_a_file_is_there,
    *[Hostility._look_elsewhere] * 2,
    Hostility._ask_of_the_server,
    Hostility._run_and_leave,
    Hostility._send_noise,
)
