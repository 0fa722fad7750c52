"""This program: what it is for, its method, its limits, where a slide goes, how to cite it, and its versions."""

import math
import platform
from importlib.metadata import PackageNotFoundError, version

import pandas as pd
import streamlit as st

import nsl
from nsl.numerals import count_of, signed
from nsl.web import controls, sources
from nsl.web.about import weights_card
from nsl.weights.reliability import USEFUL_R
from nsl.weights.weights import Weights

_PARTS = {
    "weights": "Weights",
    "reliability": "Reliability",
    "method": "Method",
    "evaluation": "Other methods",
    "limits": "Limits",
    "privacy": "Privacy",
    "cite": "Citing",
    "versions": "Versions",
}
# What the numbers of a gene are, by their name in `NeuralStain.shapes`.
_NUMBERS = {
    "deconvolution": "Stain deconvolution D: how strongly red, green and blue count towards each of two stains",
    "offset": "Stain offsets o: from how much colour on each stain counts",
    "effect": "Stain effects w: what a stain adds to expression, or takes from it",
    "intercept": "Intercept b: expression where neither stain counts",
}
_PACKAGES = (
    *("streamlit", "torch", "numpy", "numba", "openslide-python", "openslide-bin", "anndata", "plotly"),
    *("tifffile", "pillow", "huggingface-hub"),
)
_PAPER = """@misc{dawood2021color,
  author        = {Dawood, Muhammad and Branson, Kim and Rajpoot, Nasir M. and Minhas, Fayyaz ul Amir Afsar},
  title         = {All You Need is Color: Image based Spatial Gene Expression Prediction using Neural Stain Learning},
  year          = {2021},
  eprint        = {2108.10446},
  archivePrefix = {arXiv}
}"""
_SOFTWARE = """@software{{nsl,
  author  = {{{{The NSL authors}}}},
  title   = {{{{NSL: expression maps from the colour of routine H\\&E}}}},
  version = {{{version}}},
  year    = {{2026}},
  note    = {{MIT licence}}
}}"""
_DATA_NAMED = "Andersson et al. 2021"
_DATA = """@article{andersson2021spatial,
  author  = {Andersson, Alma and Larsson, Ludvig and Stenbeck, Linnea and Salm{\\'e}n, Fredrik and Ehinger, Anna and
             Wu, Sunny Z. and Al-Eryani, Ghamdan and Roden, Daniel and Swarbrick, Alex and Borg, {\\AA}ke and
             Fris{\\'e}n, Jonas and Engblom, Camilla and Lundeberg, Joakim},
  title   = {Spatial deconvolution of {HER2}-positive breast cancer delineates tumor-associated cell type interactions},
  journal = {Nature Communications},
  volume  = {12},
  pages   = {6012},
  year    = {2021},
  doi     = {10.1038/s41467-021-26271-2}
}"""


def show_purpose() -> None:
    """What this is and for whom, and the way through the page."""
    st.markdown(
        "NSL predicts where in a routine H&E section a gene is expressed, from colour alone and on an ordinary "
        "computer. It is made for pathologists who want to see what a stained section may tell, for researchers in "
        "spatial biology who take the result on as AnnData, QuPath objects or a table, and for whoever wants to read "
        f"the model: 11 numbers a gene. This is NSL {nsl.__version__}."
    )
    st.markdown(" · ".join(f"[{label}](#{anchor})" for anchor, label in _PARTS.items()))


def show_method() -> None:
    """The equation, its numbers, and what is ours in it."""
    from nsl.model import NeuralStain

    st.subheader("The method", anchor="method")
    st.markdown(
        "A pixel's colour is read as three optical densities: how strongly red, green and blue light are absorbed, "
        "against the slide's own glass $I_0$. Each of two stains, H-like and E-like, weighs the three; what comes out "
        "below 0 counts as 0. A tile's expression is an intercept plus, for each stain, its effect times its mean over "
        "the tile's pixels, which the bar stands for:"
    )
    st.latex(r"\mathrm{od}_c = -\ln \frac{I_c + 1}{I_{0,c} + 1} \qquad c = \text{red, green, blue}")
    st.latex(
        r"y_g = b_g + \sum_{s = \mathrm{H},\, \mathrm{E}} w_{g,s} \; \overline{\mathrm{relu}\bigl("
        r"\mathrm{od} \cdot D_{g,s} + o_{g,s}\bigr)}"
    )
    st.markdown("For a gene $g$ the model holds, and a fit learns:")
    counts = {_NUMBERS[name]: math.prod(shape) for name, shape in NeuralStain.shapes.items()}
    table = pd.DataFrame({"Numbers": [*map(str, counts.values()), f"**{NeuralStain.trainable_per_gene}**"]})
    table.index = [*counts, "**Together**"]
    st.table(table, border="horizontal")
    st.markdown(
        "$D$ starts from the hematoxylin and eosin that Ruifrok and Johnston published in 2001. Nothing of shape or "
        "place within a tile enters."
    )
    st.markdown(
        "**Relation to the paper.** The method is Neural Stain Learning (Dawood, Branson, Rajpoot and Minhas 2021, "
        "arXiv:2108.10446). We had its abstract only: it gives “11 trainable weight parameters” and a "
        "“problem-specific stain deconvolution matrix”, not the layers. The form above is our reading of it, and how "
        "the weights are trained is ours as well."
    )


def show_limits(weights: Weights) -> None:
    """What no map here can tell, in plain sentences; figures are those of the weights in use."""
    st.subheader("Limits", anchor="limits")
    st.markdown("\n".join(f"- {sentence}" for sentence in limits(weights)))


def limits(weights: Weights) -> list[str]:
    """A sentence or two a limit, as Markdown."""
    config, data = weights.config, weights.config.training_data
    middle = weights.reliability.r_heldout.median()
    weak = "For most genes that is weak: the" if middle < USEFUL_R else "The"
    how_well = f"{weak} median held-out r is {signed(middle)}."
    spread = " and ".join(f"{degrees:.1f}°" for degrees in config.stains.spread_degrees)
    scatter = f"The hematoxylin and eosin of the training slides lay within {spread} of their mean."
    if len(data.sections) == 1:
        scatter = "The weights know the hematoxylin and eosin of one slide, and nothing of how far others differ."
    told = [
        "**Colour alone.** The model sees how much stain there is and of which hue, never a shape. Genes that go with "
        f"the same colour get the same map. {how_well}",
        f"**Other tissue.** These weights learned from {count_of(data.patients, 'patient')}: "
        f"{controls.escaped(sources.tissue(config))}. What they say of "
        "other tissue, of other laboratories or of other scanners is untested.",
        f"**Other stains.** {scatter} "
        "Those of another laboratory are told from its slide and brought over. That was tried on slides painted in "
        "published stains, and with few real slides of other laboratories; where stains are doubtful, the app says so.",
        "**Not the single tile.** Held-out r is over all spots of a section. A pattern over many tiles can be right "
        "while the value of one tile is far off.",
        f"**Nothing smaller than {config.tile_um:g} µm.** The model learned from windows of that size. A finer map "
        "on smaller squares shows which colours a tile's value comes from; nothing so small was compared with "
        "measurement.",
        "**No receptor test.** A map of ERBB2, ESR1 or PGR says nothing about the patient's receptor status. No map "
        "replaces a stain, an assay or a count.",
    ]
    evaluated = weights_card.evaluation(config.evaluation)
    hardest = weights_card.hardest(evaluated) if evaluated is not None else None
    if hardest:
        setting, method, r = (controls.escaped(part) if isinstance(part, str) else part for part in hardest)
        told.insert(
            2,
            f"**Patients differ.** With {setting} left out, not even the best of the methods compared, {method}, came "
            f"past a median r of {r:.3f}. Nothing tells in advance whether the next patient is one of those.",
        )
    return told


def show_privacy() -> None:
    """Where a slide goes, how long it stays, and what leaves the computer."""
    st.subheader("Privacy", anchor="privacy")
    st.markdown(
        "- **Your slide is processed by the computer that runs this app, and sent nowhere else.** If you started the "
        "app yourself, that is your own computer. If you opened it at somebody else's address, such as a public Space, "
        "it is theirs, and the slide is sent to it: bring no images there that you may not share.\n"
        "- **Each open page has a session of its own.** Others who open the app at the same address see nothing of "
        "your slides.\n"
        "- **An upload is kept in a temporary folder of the session.** Within minutes of closing the page it is gone; "
        "*Remove this slide* deletes it at once. Where the program is killed or the computer fails, the folder is left "
        "until the program is started there again. Slides in a folder of the server stay where they are. Results lie "
        "in memory and go with the session.\n"
        "- **Nothing about a slide travels in links.** A link to a view holds the gene, the colours and the range.\n"
        "- **Names of regions stay on the page.** Besides, only the files that you download hold them.\n"
        "- **What you download is yours to guard.** Tables, AnnData and GeoJSON name a slide by its checksum; the "
        "map to print, the report, the table of one gene on two slides and the names of downloaded files carry its "
        "file name. AnnData, the map to print, the report and the zip of everything hold a picture of the slide.\n"
        "- **What does go out:** only if you ask for weights from the Hugging Face Hub, or the server is set up with "
        "such weights. Then the Hub is sent their name, the address of the computer that runs the app, the versions of "
        "the program and of what it rests on, and, where one is set up, an access token. The weights that come with "
        "the program need no request. No usage statistics are gathered."
    )


def show_citation(weights: Weights) -> None:
    """The paper, this software, and the data that the weights were learned from."""
    st.subheader("Citing", anchor="cite")
    st.markdown("The method:")
    st.code(_PAPER, language="latex", wrap_lines=True)
    st.markdown("This software:")
    st.code(_SOFTWARE.format(version=nsl.__version__), language="latex", wrap_lines=True)
    source = weights.config.training_data.source
    if _DATA_NAMED in str(source):
        st.markdown("The data that the weights in use were learned from:")
        st.code(_DATA, language="latex", wrap_lines=True)
    else:
        st.markdown(
            f"The weights in use were learned from: {controls.escaped(str(source))}."
            if source
            else "The weights in use do not say which data they were learned from."
        )


def show_versions(weights: Weights) -> None:
    """What is installed, and all of it as text for a report."""
    st.subheader("Versions", anchor="versions")
    found = versions()
    st.table(pd.Series(found), border="horizontal", hide_header=True, width=420)
    st.caption("For a report of a fault, copy this:")
    st.code(report(weights, found), language=None)


def versions() -> dict[str, str]:
    """Of this program and what it rests on, by name."""
    return {"nsl": nsl.__version__, "Python": platform.python_version()} | {name: _version(name) for name in _PACKAGES}


def report(weights: Weights, found: dict[str, str]) -> str:
    """Versions, system and weights as plain text; nothing of a slide."""
    commit = f" at {weights.revision}" if weights.revision else ""
    return "\n".join(
        [
            *(f"{name} {number}" for name, number in found.items()),
            f"system {platform.platform()}",
            f"weights {weights.name}{commit}, model.safetensors {weights.sha256 or 'trained in this session'}",
        ]
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
