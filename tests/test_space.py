"""The Dockerfile, what it copies, and docs/space.md, as far as they can be checked without Docker."""

import http.server
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from importlib.metadata import version
from itertools import takewhile
from pathlib import Path, PurePosixPath

import pytest
import yaml

from nsl.web.session import server
from tests.browser.serving import served

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
DOCUMENT = (ROOT / "docs/space.md").read_text(encoding="utf-8")
PORT = 8501


def _instructions() -> list[tuple[str, str]]:
    """Keyword and arguments of each instruction, comments left out and continued lines joined."""
    lines = [line for line in DOCKERFILE.splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [tuple(line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


def _arguments(keyword: str) -> list[str]:
    return [arguments for word, arguments in _instructions() if word == keyword]


def _is_kept_out(path: PurePosixPath) -> bool:
    """Whether .dockerignore names the path or a folder above it."""
    names = [path.as_posix(), *(parent.as_posix() for parent in path.parents)]
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        pattern = line.strip().strip("/")
        if not pattern or pattern.startswith("#"):
            continue
        assert not re.search(r"[!\[\]\\]", pattern), f"this test does not know the pattern {pattern}"
        parts = re.split(r"(\*\*/|\*\*|\*|\?)", pattern)
        meaning = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
        regex = "".join(meaning.get(part, re.escape(part)) for part in parts)
        if any(re.fullmatch(regex, name) for name in names):
            return True
    return False


def _copies() -> list[tuple[str, str]]:
    """Source and target of everything copied; targets lie below the app's folder."""
    pairs = []
    for arguments in _arguments("COPY"):
        *sources, target = [word for word in shlex.split(arguments) if not word.startswith("--")]
        pairs += [(source, source if target == "./" else target) for source in sources]
    return pairs


def _image_files() -> dict[str, Path]:
    """The image's files below the app's folder, by path, with where they are copied from."""
    files = {}
    for source, target in _copies():
        whole = ROOT / source
        for path in [whole] if whole.is_file() else [path for path in whole.rglob("*") if path.is_file()]:
            if not _is_kept_out(PurePosixPath(path.relative_to(ROOT).as_posix())):
                files[(PurePosixPath(target) / path.relative_to(whole).as_posix()).as_posix()] = path
    return files


@pytest.fixture(scope="module")
def image_folder(tmp_path_factory) -> Path:
    """The app's folder with the files of the image alone, and the loops that were compiled from the same sources."""
    folder = tmp_path_factory.mktemp("image")
    for name, path in _image_files().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, folder / name)
    for compiled in (ROOT / "nsl").rglob("__pycache__/*.nb?"):
        (folder / compiled.relative_to(ROOT)).parent.mkdir(exist_ok=True)
        shutil.copy2(compiled, folder / compiled.relative_to(ROOT))
    return folder


# What is copied


@pytest.mark.parametrize(("source", "target"), _copies())
def test_what_is_copied_exists_and_is_not_kept_out(source, target):
    assert (ROOT / source).exists()
    assert not _is_kept_out(PurePosixPath(source))
    assert any(name == target or name.startswith(f"{target}/") for name in _image_files())


def test_the_image_gets_the_program_and_nothing_of_its_making():
    files = _image_files()
    modules = [path.relative_to(ROOT).as_posix() for top in ("nsl", "pages") for path in (ROOT / top).rglob("*.py")]
    assert set(modules) < set(files)
    assert {"app.py", "LICENSE", "requirements.lock", ".streamlit/config.toml"} < set(files)
    assert {path.name for path in files.values() if "her2-breast" in path.parts} == {
        *("config.json", "model.safetensors", "reliability.csv", "signatures.csv", "README.md"),
    }
    tops = {PurePosixPath(name).parts[0] for name in files}
    assert not tops & {".git", "tests", "benchmarks", "out", "docs", "data", "shared"}
    assert not [name for name in files if "__pycache__" in name or name.endswith((".pyc", ".nbi", "secrets.toml"))]


@pytest.mark.parametrize(
    ("path", "kept_out"),
    [
        ("tests/test_space.py", True),
        ("nsl/__pycache__/pixels._respond-41.py311.nbi", True),
        (".streamlit/secrets.toml", True),
        (".streamlit/config.toml", False),
        (".env.local", True),
        ("weights/make_her2_breast.py", True),
        ("weights/her2-breast/reliability.csv", False),
        ("nsl/tests.py", False),
        ("app.py", False),
    ],
)
def test_patterns_mean_what_docker_takes_them_for(path, kept_out):
    assert _is_kept_out(PurePosixPath(path)) == kept_out


def test_the_app_starts_from_the_files_of_the_image_alone(image_folder):
    code = (
        "from streamlit.testing.v1 import AppTest\n"
        "import nsl\n"
        "app = AppTest.from_file('app.py', default_timeout=120).run()\n"
        "print(nsl.__file__, [e.value for e in (*app.exception, *app.error)], [b.label for b in app.button])"
    )
    told = subprocess.run([sys.executable, "-c", code], cwd=image_folder, capture_output=True, text=True, check=True)
    assert told.stdout.split(maxsplit=1) == [f"{image_folder}/nsl/__init__.py", "[] ['Use the demo slide']\n"]


# What is run as it is built


def _python_runs() -> list[list[str]]:
    """The arguments of every Python that a RUN starts."""
    return [
        list(takewhile(lambda word: word != "&&", words[place + 1 :]))
        for words in map(shlex.split, _arguments("RUN"))
        for place, word in enumerate(words)
        if word == "python"
    ]


def test_no_python_of_the_build_is_overlooked():
    assert len(_python_runs()) == len(re.findall(r"\bpython\b", " ".join(_arguments("RUN")))) == 2


@pytest.mark.parametrize("arguments", _python_runs(), ids=lambda arguments: arguments[-1][:30])
def test_what_the_build_runs_in_python_succeeds(arguments, image_folder):
    told = subprocess.run([sys.executable, *arguments], cwd=image_folder, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr


# How it starts


def _run_command(tmp_path: Path, environment: dict[str, str]) -> list[str]:
    """What the image's command would start, an argument a line of a stand-in for streamlit."""
    stand_in = tmp_path / "streamlit"
    stand_in.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    stand_in.chmod(0o755)
    command = json.loads(_arguments("CMD")[0])
    told = subprocess.run(
        command, env={"PATH": f"{tmp_path}:/usr/bin:/bin", **environment}, capture_output=True, text=True, check=True
    )
    return told.stdout.splitlines()


def test_the_command_passes_the_limit_of_uploads_to_the_server_where_there_is_one(tmp_path):
    fixed = [
        *("run", "app.py", "--server.address=0.0.0.0", f"--server.port={PORT}", "--server.headless=true"),
        "--server.enableXsrfProtection=false",
    ]
    assert _run_command(tmp_path, {}) == fixed
    assert _run_command(tmp_path, {"NSL_MAX_UPLOAD_MB": ""}) == fixed
    assert _run_command(tmp_path, {"NSL_MAX_UPLOAD_MB": "500"}) == [*fixed, "--server.maxUploadSize=500"]
    assert _run_command(tmp_path, {"NSL_MAX_UPLOAD_MB": "5 0; ls"}) == [*fixed, "--server.maxUploadSize=5 0; ls"]


def _health_check(port: int) -> int:
    """The status with which the image's check of a server on that port ends."""
    _, command = _arguments("HEALTHCHECK")[0].split("CMD ")
    python, *rest = json.loads(command.replace(f":{PORT}/", f":{port}/"))
    assert python == "python"
    return subprocess.run([sys.executable, *rest], capture_output=True).returncode


def test_the_health_check_tells_the_started_server_from_one_that_has_ended(tmp_path):
    scripts = Path(sys.executable).parent
    environment = os.environ | _limits_of_the_image() | {"PATH": f"{scripts}:{os.environ['PATH']}"}
    command = [word.replace(f"={PORT}", "=PORT") for word in json.loads(_arguments("CMD")[0])]
    with served(tmp_path / "log.txt", environment, command) as address:
        port = int(address.rpartition(":")[2])
        assert _health_check(port) == 0
    assert _health_check(port) != 0


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_the_health_check_fails_where_the_server_is_not_well(status, code, monkeypatch):
    class Health(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status if self.path == "/_stcore/health" else 404)
            self.end_headers()

        def log_message(self, *_):
            pass

    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with http.server.HTTPServer(("127.0.0.1", 0), Health) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert _health_check(server.server_port) == code
        server.shutdown()


def test_uploads_are_protected_everywhere_but_in_the_space():
    places = ["app.py", "pyproject.toml", "README.md", "nsl", "pages", ".streamlit", ".ci", "benchmarks", "weights"]
    paths = [path for place in places for path in [ROOT / place, *(ROOT / place).rglob("*")]]
    texts = {path: path.read_bytes() for path in paths if path.is_file() and "__pycache__" not in path.parts}
    assert len(texts) > 40
    assert [path for path, text in texts.items() if b"xsrf" in text.lower()] == []
    assert DOCKERFILE.count("enableXsrfProtection") == 1
    assert "enableCORS" not in DOCKERFILE


def _limits_of_the_image() -> dict[str, str]:
    values = dict(word.split("=") for arguments in _arguments("ENV") for word in shlex.split(arguments))
    return {name: value for name, value in values.items() if name.startswith("NSL_")}


def test_the_limits_of_the_image_are_good_ones(monkeypatch):
    values = _limits_of_the_image()
    assert set(values) == {"NSL_MAX_PIXELS", "NSL_MAX_UPLOAD_MB", "NSL_MAX_CONCURRENT_RUNS", "NSL_MAX_RESULTS_MB"}
    for variable, value in values.items():
        monkeypatch.setenv(variable, value)
        assert f"`{variable}` | {int(value):,} |" in DOCUMENT
    server.limits.cache_clear()
    try:
        assert None not in vars(server.limits()).values()
    finally:
        server.limits.cache_clear()


# What the documentation says


def _front_matter() -> dict:
    return yaml.safe_load(re.search(r"```yaml\n---\n(.*?)---\n```", DOCUMENT, re.DOTALL)[1])


def test_dockerfile_and_front_matter_agree_on_the_port_and_the_user():
    assert _front_matter()["app_port"] == PORT
    assert _arguments("EXPOSE") == [str(PORT)]
    assert f":{PORT}/_stcore/health" in DOCKERFILE
    assert re.search(r"useradd .*--uid 1000 user\b", DOCKERFILE)
    assert _arguments("USER") == ["1000"]
    assert "user id 1000" in DOCUMENT


def test_front_matter_is_what_the_hub_takes():
    block = _front_matter()
    colors = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
    assert block["sdk"] == "docker"
    assert {block["colorFrom"], block["colorTo"]} <= colors
    assert len(block["short_description"]) <= 60
    assert block["license"] == "mit"


def test_the_upload_has_the_files_that_the_image_is_built_from():
    told = re.search(r"git archive HEAD (.*?) \|", DOCUMENT, re.DOTALL)[1].split()
    assert set(told) == {"Dockerfile", ".dockerignore", *(source for source, _ in _copies())}


def test_every_variable_the_program_reads_is_explained():
    sources = " ".join(path.read_text(encoding="utf-8") for path in (ROOT / "nsl").rglob("*.py"))
    variables = set(re.findall(r"\bNSL_[A-Z_]+\b", sources))
    assert "NSL_WEIGHTS" in variables
    assert [variable for variable in variables if f"`{variable}`" not in DOCUMENT] == []


def _locked() -> dict[str, tuple[str, list[str]]]:
    """Version and hashes of every package of the lock."""
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    pattern = r"(?m)^([\w.-]+)==(\S+) \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)"
    found = {name: (wanted, re.findall("[0-9a-f]{64}", hashes)) for name, wanted, hashes in re.findall(pattern, text)}
    # Nothing but comments and packages: no other server is named.
    assert re.sub(pattern, "", re.sub(r"(?m)^#.*\n", "", text)) == ""
    return found


def test_the_lock_has_the_pins_and_a_hash_of_everything_that_comes_with_them():
    pins = dict(line.split("==") for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").split())
    locked = _locked()
    assert len(locked) > 2 * len(pins)
    assert {name: locked[name][0].split("+")[0] for name in pins} == pins
    assert locked["torch"][0].endswith("+cpu")
    assert all(hashes for _, hashes in locked.values())
    assert not [name for name in locked if name.startswith(("nvidia", "cuda", "triton"))]


def test_the_image_is_built_from_the_lock_and_refuses_what_has_another_hash():
    [install] = [words for words in map(shlex.split, _arguments("RUN")) if "pip" in words]
    assert "--require-hashes" in install
    assert install[install.index("-r") + 1] == "requirements.lock"


def test_requirements_are_pinned_and_installed_as_pinned():
    pins = [line for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").split() if line]
    for pin in pins:
        name, separator, wanted = pin.partition("==")
        assert separator, f"{pin} is not pinned"
        # A build's own label, as in 2.13.0+cpu, satisfies the pin.
        assert version(name).split("+")[0] == wanted
