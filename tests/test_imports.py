"""What may import what, and what importing the package may cost."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_imports_keep_to_the_layers_of_pyproject():
    # In a process of its own: it silences the loggers of the one it runs in.
    code = "from importlinter.cli import lint_imports_command; lint_imports_command(['--no-cache'])"
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert told.returncode == 0, told.stdout


def test_the_packages_of_a_wheel_are_the_folders_of_the_package():
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    folders = {".".join(file.parent.relative_to(ROOT).parts) for file in (ROOT / "nsl").rglob("__init__.py")}
    elsewhere = set(setuptools["package-dir"])
    assert sorted(setuptools["packages"]) == sorted(folders | elsewhere)
    assert all((ROOT / folder).is_dir() for folder in setuptools["package-dir"].values())


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
        ("import nsl.cohort.folder, nsl.cohort.run", ["distributed"]),
        ("from nsl.web.cohort import cohort_choice, slide_maps", ["torch", "distributed", "nsl.prediction"]),
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
