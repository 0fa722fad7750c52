"""What may import what, and what importing the package may cost."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Lowest first: a module imports from its own floor or a lower one.
FLOORS = [
    {"errors"},
    {"parallel", "average", "numerals", "stains", "readers", "archive", "aliases", "hub", "hub_cache"},
    {"slide", "tiles", "histogram", "model", "pixels"},
    {"weights", "card", "spots"},
    {"measure", "measured", "learned"},
    {"prediction", "evaluate", "nuclei", "baselines", "deep", "train", "publish"},
    {"agreement", "association", "autocorrelation", "checks", "look", "regions"},
    {"export", "picture", "figures", "demo", "_tissue"},
    {"comparison"},
    {"cli", "web"},
    {"__main__"},
]
FLOOR_OF = {module: number for number, floor in enumerate(FLOORS) for module in floor}
MODULES = sorted(path for path in (ROOT / "nsl").rglob("*.py") if path.parent.name != "nsl" or path.stem != "__init__")


def _imports(path: Path) -> set[str]:
    """Dotted names a file imports, wherever in the file."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _module(path: Path) -> str:
    return path.relative_to(ROOT / "nsl").parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down_the_floors(path):
    imported = {name.split(".")[1] for name in _imports(path) if name.startswith("nsl.") and name != "nsl.__version__"}
    assert imported <= FLOOR_OF.keys(), "a module without a floor"
    too_high = {name for name in imported if FLOOR_OF[name] > FLOOR_OF[_module(path)]}
    assert not too_high


def test_only_the_web_folder_pages_and_app_import_streamlit():
    with_streamlit = {
        path.relative_to(ROOT).as_posix()
        for path in [*MODULES, *(ROOT / "pages").glob("*.py"), ROOT / "app.py"]
        if any(name.split(".")[0] == "streamlit" for name in _imports(path))
    }
    assert with_streamlit
    assert all(name.startswith(("nsl/web/", "pages/")) or name == "app.py" for name in with_streamlit)


@pytest.mark.parametrize(
    ("statement", "not_yet"),
    [
        ("import nsl", ["torch", "numba", "streamlit", "numpy", "anndata"]),
        ("from nsl import open_slide", ["torch", "numba", "streamlit"]),
        ("import nsl.cli; nsl.cli._parser()", ["torch", "numba", "streamlit", "pandas", "huggingface_hub"]),
        (
            "from nsl.weights.folder import embedded_config; embedded_config()",
            ["torch", "numba", "streamlit", "pandas", "huggingface_hub"],
        ),
        (
            "import nsl.weights.hub; nsl.weights.hub.is_hub_source('org/name@v1')",
            ["torch", "numpy", "huggingface_hub", "httpx2"],
        ),
        (
            "from nsl.web import controls, sources; from nsl.web.predict import prediction_run",
            ["torch", "numba", "pandas", "skimage"],
        ),
        ("import nsl.weights.publish", ["torch", "numpy", "huggingface_hub"]),
    ],
)
def test_heavy_libraries_wait_until_they_are_needed(statement, not_yet):
    code = f"{statement}\nimport sys\nprint(*[name for name in {not_yet!r} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == []


def test_public_names_are_functions_and_classes_also_after_their_modules_were_imported():
    code = (
        "import nsl, nsl.prediction, nsl.train, nsl.slides.slide\n"
        "print(all(callable(getattr(nsl, name)) for name in nsl.__all__ if name != '__version__'))\n"
        "print(sorted(set(nsl.__all__) - set(dir(nsl))))"
    )
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["True", "[]"]


def test_an_unknown_public_name_is_an_attribute_error():
    import nsl

    with pytest.raises(AttributeError, match="no attribute 'predcit'"):
        _ = nsl.predcit
