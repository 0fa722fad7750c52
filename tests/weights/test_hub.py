"""What `hub` promises: the files that were published or one sentence within three seconds, and never anything else.

The Hub's own client speaks to a Hub on this machine. The limit of three seconds is the contract, not a measurement.
"""

import json
import os
import pickle
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from huggingface_hub import constants, hf_hub_download, snapshot_download

from nsl.errors import HubError, NslError, WeightsError
from nsl.weights.folder import load_weights
from nsl.weights.hub import Source, fetch, is_hub_source, parse_source
from nsl.weights.hub_cache import MAX_BYTES
from tests.fake_hub import FakeHub

ROOT = Path(__file__).parents[2]
REPO = "org/her2"
FILES = {
    "config.json": b'{"genes": []}\n',
    "README.md": "# Färbung\n".encode() * 300,
    "reliability.csv": b"gene,r_heldout\n",
    "signatures.csv": b"signature,source\n",
    "model.safetensors": bytes(range(256)) * 20,
}


def read(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def refusal(source: str, hub: FakeHub, **options) -> str:
    """What fetching says, in one sentence."""
    with pytest.raises(HubError) as caught:
        fetch(source, endpoint=hub.url, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert message[-1] != "."
    return message


def in_new_process(code: str, tmp_path: Path, **environment: str) -> str:
    """What it prints in a Python whose Hub client reads these variables, with the cache of the tests."""
    env = os.environ | {"HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_TELEMETRY": "1"} | environment
    code = f"from nsl.errors import HubError\nfrom nsl.weights.hub import fetch\n{code}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.strip()


# Names


@pytest.mark.parametrize(
    ("text", "repo", "revision"),
    [
        ("org/name", "org/name", "main"),
        ("org/name@v1.0", "org/name", "v1.0"),
        ("Org-1/na.me_2@refs/pr/3", "Org-1/na.me_2", "refs/pr/3"),
        ("org/name@" + "0a" * 20, "org/name", "0a" * 20),
    ],
)
def test_a_source_has_a_repository_and_a_revision(text, repo, revision):
    assert parse_source(text) == Source(repo, revision)
    assert is_hub_source(text)


@pytest.mark.parametrize(
    "text",
    [
        *("", "name", "a/b/c", "org/", "/name", "org/na me", "org/na--me", "org/na..me", "org/name.git", "-org/name"),
        *(
            "org/name@",
            "org/name@a b",
            "org/name@../../x",
            "org/name@a..b",
            "org/name@a//b",
            "org/name@/a",
            "org/name@a/",
        ),
        *("org/name@-f", "org/name@a\nb", "hf://org/name", "https://huggingface.co/org/name", "órg/name"),
    ],
)
def test_a_malformed_source_is_refused_in_one_sentence(text):
    with pytest.raises(HubError, match=r"is not a name on the Hub; write|has no revision that can be; after") as caught:
        parse_source(text)
    assert repr(text) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        *("weights", "./org/name", "../org/name", "/org/name", "~/weights", "~me/weights", "org/name/", "a/b/c"),
        *(r"C:\weights\her2", "C:/weights", r"org\name", r".\org\name", "", ".", "a/b/c@v1", "my weights/her2"),
    ],
)
def test_a_path_is_never_a_hub_source(text):
    assert not is_hub_source(text)


def test_what_exists_in_the_working_folder_is_never_a_hub_source(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_hub_source("org/name")
    assert is_hub_source("org/name@v1")
    (tmp_path / "org/name@v1").mkdir(parents=True)
    assert not is_hub_source("org/name@v1")
    (tmp_path / "org/name").touch()
    assert not is_hub_source("org/name")


def test_a_mistyped_folder_is_not_asked_of_the_hub_unless_it_has_a_revision(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").mkdir()
    assert not is_hub_source("results/her2-brest")
    assert is_hub_source("results/her2-brest@main")


def test_a_path_object_is_never_a_hub_source():
    assert not is_hub_source(Path("org/name"))


def test_a_web_address_is_taken_for_the_hub_and_refused_with_the_right_form():
    assert is_hub_source("https://huggingface.co/org/name")
    assert not is_hub_source("https")


# Fetching


def test_a_weights_folder_is_downloaded_whole_and_equal(hub):
    commit = hub.commit(REPO, FILES, "v1")
    fetched = fetch(f"{REPO}@v1", endpoint=hub.url)
    assert read(fetched.folder) == FILES
    assert fetched.commit == commit


def test_without_a_revision_it_is_the_main_branch(hub):
    commit = hub.commit(REPO, FILES)
    assert fetch(REPO, endpoint=hub.url).commit == commit


def test_a_cached_commit_makes_no_request(hub):
    commit = hub.commit(REPO, FILES)
    first = fetch(f"{REPO}@{commit}", endpoint=hub.url)
    hub.requests.clear()
    assert fetch(f"{REPO}@{commit}", endpoint=hub.url) == first
    assert hub.requests == []


def test_a_cached_commit_is_had_while_the_hub_is_out_of_reach(hub):
    commit = hub.commit(REPO, FILES)
    folder = fetch(REPO, endpoint=hub.url).folder
    assert fetch(f"{REPO}@{commit}", endpoint="http://127.0.0.1:1").folder == folder


def test_a_tag_that_moved_brings_the_new_files_and_keeps_the_old(hub):
    old = hub.commit(REPO, FILES, "v1")
    fetch(f"{REPO}@v1", endpoint=hub.url)
    new = hub.commit(REPO, FILES | {"config.json": b"{}"}, "v1")
    assert fetch(f"{REPO}@v1", endpoint=hub.url).commit == new
    assert read(fetch(f"{REPO}@{new}", endpoint=hub.url).folder)["config.json"] == b"{}"
    assert read(fetch(f"{REPO}@{old}", endpoint=hub.url).folder) == FILES


def test_a_tag_that_stands_where_it_stood_costs_one_request(hub):
    hub.commit(REPO, FILES, "v1")
    fetch(f"{REPO}@v1", endpoint=hub.url)
    hub.requests.clear()
    fetch(f"{REPO}@v1", endpoint=hub.url)
    assert [request.method for request in hub.requests] == ["HEAD"]


def test_all_files_are_of_the_commit_that_the_branch_had_at_the_start(hub):
    commit = hub.commit(REPO, FILES)
    fetch(REPO, endpoint=hub.url)
    revisions = [path.split("/resolve/")[1].split("/")[0] for _, path, *_ in hub.requests if "/resolve/" in path]
    assert revisions == ["main", *[commit] * (len(revisions) - 1)]


def test_a_slow_download_that_moves_is_waited_for(hub, monkeypatch):
    # Many pauses long, so that a computer that stands still for seconds does not pass for a silent Hub.
    silence_s = 8.0
    monkeypatch.setattr("nsl.weights.hub.SILENCE_S", silence_s)
    hub.commit(REPO, FILES)
    hub.body = "slow"
    fetch(REPO, endpoint=hub.url)
    assert hub.waited_s > silence_s


def test_several_at_once_fetch_the_same(hub):
    commit = hub.commit(REPO, FILES)
    with ThreadPoolExecutor(4) as pool:
        folders = {fetched.folder for fetched in pool.map(lambda _: fetch(REPO, endpoint=hub.url), range(8))}
    [folder] = folders
    assert folder.name == commit
    assert read(folder) == FILES
    assert not list((folder.parents[1]).rglob("*.incomplete"))


# What is not to be had


def test_a_missing_revision_is_said(hub):
    hub.commit(REPO, FILES)
    assert "org/her2 has no revision v9; choose a tag, a branch or a commit" in refusal(f"{REPO}@v9", hub)
    assert "has no revision " + "0" * 40 in refusal(f"{REPO}@{'0' * 40}", hub)


def test_a_missing_repository_is_said(hub):
    message = refusal("org/none@v1", hub)
    assert message.startswith("org/none is neither a folder here nor a repository at 127.0.0.1:")
    assert "set HF_TOKEN" in message


def test_a_private_repository_is_not_told_from_a_missing_one(hub):
    hub.commit(REPO, FILES)
    hub.repos[REPO].private = True
    assert "nor a repository at 127.0.0.1:" in refusal(REPO, hub)
    assert "set HF_TOKEN" in refusal(REPO, hub, token="hf_stranger")


@pytest.mark.parametrize("token", [None, "hf_stranger"])
def test_a_gated_repository_asks_for_its_terms_and_a_token(hub, token):
    hub.commit(REPO, FILES)
    hub.repos[REPO].gated = True
    message = refusal(REPO, hub, token=token)
    assert "org/her2 is gated; accept its terms" in message
    assert "HF_TOKEN" in message


@pytest.mark.parametrize("name", ["config.json", "README.md", "model.safetensors"])
def test_a_repository_that_lacks_a_file_is_said(hub, name):
    hub.commit(REPO, {other: data for other, data in FILES.items() if other != name})
    assert f"org/her2@main has no {name}" in refusal(REPO, hub)


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_asks_for_a_token(hub, status):
    hub.status = status
    assert f"refuses org/her2 ({status}); set HF_TOKEN" in refusal(REPO, hub)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_an_error_of_the_server_is_said_at_once(hub, status):
    hub.status = status
    message = refusal(REPO, hub)
    assert message.startswith("org/her2@main cannot be fetched: 127.0.0.1:")
    assert str(status) in message
    assert len(hub.requests) == 1


def test_an_error_in_the_midst_is_said_at_once(hub):
    hub.commit(REPO, FILES)
    hub.body = "fail"
    assert "answers with error 503; try again later" in refusal(REPO, hub)


def test_a_refused_connection_is_said(hub):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(
        HubError, match=r"cannot be reached \(.*refused.*\); check the network, the proxy and HF_ENDPOINT"
    ):
        fetch(REPO, endpoint=url)


@pytest.mark.parametrize(
    "endpoint", ["http://no-such-host.invalid", "nonsense", "http://[", "ftp://127.0.0.1", "http://127.0.0.1:99999"]
)
def test_an_endpoint_that_is_none_is_said(hub, impatient, endpoint):
    with pytest.raises(HubError, match=r"org/her2@main cannot be fetched: .*(HF_ENDPOINT|does not answer)"):
        fetch(REPO, endpoint=endpoint)


def test_the_password_of_an_endpoint_is_not_shown(hub):
    with pytest.raises(HubError) as caught:
        fetch(REPO, endpoint="http://me:secret@127.0.0.1:1")
    assert "secret" not in str(caught.value)


def test_a_server_that_never_answers_is_left(hub, impatient):
    hub.silent = True
    assert "does not answer in time (silent for 2 s)" in refusal(REPO, hub)


def test_a_server_that_never_answers_is_left_also_when_the_client_asks_it_for_more(hub, tmp_path):
    """With its telemetry on, the client first asks its endpoint for a list, and waits 3 s for that alone."""
    hub.silent = True
    code = f"try:\n    fetch({REPO!r})\nexcept HubError as error:\n    print(error)"
    said = in_new_process(code, tmp_path, HF_ENDPOINT=hub.url, HF_HUB_DISABLE_TELEMETRY="0")
    assert "does not answer in time (silent for 2 s)" in said
    assert [request.path for request in hub.requests] == ["/api/agent-harnesses"]


def test_a_server_that_answers_by_the_byte_is_left(hub, impatient):
    hub.drip = True
    assert "does not answer in time" in refusal(REPO, hub)


@pytest.mark.parametrize("fault", ["hang", "hang midway", "drip"])
def test_a_download_that_stalls_is_left_and_fetched_anew_later(hub, impatient, fault):
    hub.commit(REPO, FILES)
    hub.body = fault
    assert "does not answer in time" in refusal(REPO, hub)
    hub.body = ""
    assert read(fetch(REPO, endpoint=hub.url).folder) == FILES


@pytest.mark.parametrize("fault", ["truncate", "corrupt", "longer"])
def test_a_file_that_arrives_otherwise_than_announced_is_refused_and_fetched_anew(hub, tmp_path, fault):
    hub.commit(REPO, FILES)
    hub.body = fault
    message = refusal(REPO, hub)
    assert "config.json of org/her2@" in message or "without sending complete message body" in message
    assert not [path for path in (tmp_path / "home").rglob("*") if path.is_file()]
    hub.body = ""
    assert read(fetch(REPO, endpoint=hub.url).folder) == FILES


def test_tensors_with_another_sha256_are_refused_with_both(hub):
    hub.commit(REPO, FILES)
    [oid] = hub.objects
    hub.objects[oid] = FILES["model.safetensors"][::-1]
    message = refusal(REPO, hub)
    assert f"not the {oid[:12]}… announced" in message
    assert "model.safetensors" in message


def test_a_login_page_in_place_of_the_hub_is_told(hub):
    hub.portal = True
    assert "is not a Hugging Face Hub but perhaps a login page" in refusal(REPO, hub)


def test_a_server_without_checksums_is_refused(hub):
    hub.commit(REPO, FILES)
    hub.without = {"etag"}
    assert "gives no checksum for config.json of org/her2@main" in refusal(REPO, hub)


def test_a_pinned_commit_is_never_answered_by_another(hub):
    other = hub.commit(REPO, FILES)
    pin = "ab" * 20
    hub.repos[REPO].refs[pin] = other
    assert f"answers with commit {other} for {REPO}@{pin}" in refusal(f"{REPO}@{pin}", hub)


def test_a_commit_that_would_leave_the_cache_is_refused(hub):
    commit = hub.commit(REPO, FILES)
    hub.repos[REPO].commits["../../../evil"] = hub.repos[REPO].commits.pop(commit)
    hub.repos[REPO].refs["main"] = "../../../evil"
    assert "is not a Hugging Face Hub" in refusal(REPO, hub)


def test_a_branch_out_of_reach_names_the_commit_that_is_cached(hub):
    commit = hub.commit(REPO, FILES)
    fetch(REPO, endpoint=hub.url)
    hub.status = 503
    assert refusal(REPO, hub).endswith(f"or use {REPO}@{commit}, which is cached")


# Nothing but the files of a weights folder


def test_nothing_but_the_files_of_a_weights_folder_is_asked_for(hub):
    extra = {
        "pytorch_model.bin": b"pickle",
        "model.pkl": b"pickle",
        "run.py": b"1",
        "model.safetensors.index.json": b"{}",
    }
    hub.commit(REPO, FILES | extra)
    assert read(fetch(REPO, endpoint=hub.url).folder) == FILES
    assert hub.asked_for() == FILES.keys() == MAX_BYTES.keys()


def test_weights_without_gene_sets_are_whole_without_that_file(hub):
    few = {name: content for name, content in FILES.items() if name != "signatures.csv"}
    commit = hub.commit(REPO, few)
    assert read(fetch(REPO, endpoint=hub.url).folder) == few
    asked = len(hub.requests)
    assert read(fetch(f"{REPO}@{commit}", endpoint=hub.url).folder) == few
    assert len(hub.requests) == asked


def test_a_pickle_in_place_of_the_tensors_is_neither_fetched_nor_opened(hub):
    hub.commit(
        REPO,
        {
            "config.json": b"{}",
            "README.md": b"#",
            "reliability.csv": b"gene",
            "model.pkl": b"pickle",
            "pytorch_model.bin": b"pickle",
        },
    )
    assert "has no model.safetensors" in refusal(REPO, hub)
    assert hub.asked_for() <= MAX_BYTES.keys()
    assert all(request.server == "hub" for request in hub.requests)


class _Trap:
    """Unpickling it makes a file."""

    def __init__(self, proof: Path):
        self.proof = proof

    def __reduce__(self):
        return Path.touch, (self.proof,)


def test_a_pickle_under_the_name_of_the_tensors_is_never_run(hub, tiny_weights, tmp_path):
    proof = tmp_path / "the pickle ran"
    hub.commit(REPO, read(tiny_weights) | {"model.safetensors": pickle.dumps(_Trap(proof))})
    with pytest.raises(WeightsError, match=r"model\.safetensors is damaged"):
        load_weights(fetch(REPO, endpoint=hub.url).folder)
    assert not proof.exists()


@pytest.mark.parametrize("name", MAX_BYTES)
def test_a_file_announced_too_large_is_refused_before_it_is_downloaded(hub, name):
    hub.commit(REPO, FILES)
    hub.announce[name] = MAX_BYTES[name] + 1
    assert f"{name} of {REPO}@" in refusal(REPO, hub)
    assert ("GET", name) not in {(request.method, request.path.rsplit("/", 1)[-1]) for request in hub.requests}


def test_a_config_of_ten_million_genes_is_refused_in_words(hub):
    hub.commit(REPO, FILES)
    hub.announce["config.json"] = 120_000_000
    assert "config.json of org/her2@main has 120,000,000 bytes, weights of 100,000 genes need at most 8,000,000" in (
        refusal(REPO, hub)
    )


def test_a_file_larger_than_announced_is_left_at_the_limit(hub, monkeypatch):
    monkeypatch.setitem(MAX_BYTES, "config.json", 4_000)
    hub.commit(REPO, FILES | {"config.json": b" " * 5_000_000})
    hub.announce["config.json"] = 10
    hub.without = {"content-length"}
    assert "config.json of org/her2@" in refusal(REPO, hub)


def test_a_file_too_large_in_the_cache_is_not_opened(hub, monkeypatch):
    commit = hub.commit(REPO, FILES)
    fetch(REPO, endpoint=hub.url)
    monkeypatch.setitem(MAX_BYTES, "README.md", len(FILES["README.md"]) - 1)
    assert "README.md of org/her2@" in refusal(f"{REPO}@{commit}", hub)


def test_the_limits_leave_room_for_twenty_times_the_embedded_weights():
    for path in (ROOT / "weights/her2-breast").iterdir():
        assert 20 * path.stat().st_size < MAX_BYTES[path.name]


# The cache


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_in_the_cache_is_noticed_and_fetched_anew(hub, name):
    commit = hub.commit(REPO, FILES)
    path = fetch(REPO, endpoint=hub.url).folder / name
    path.resolve().write_bytes(path.read_bytes()[:-1] + b"?")
    fetched = fetch(f"{REPO}@{commit}", endpoint=hub.url)
    assert read(fetched.folder) == FILES


@pytest.mark.parametrize("name", FILES)
def test_a_link_of_the_cache_that_leads_nowhere_is_noticed_and_mended(hub, name):
    commit = hub.commit(REPO, FILES)
    (fetch(REPO, endpoint=hub.url).folder / name).resolve().unlink()
    assert read(fetch(f"{REPO}@{commit}", endpoint=hub.url).folder) == FILES


def test_what_the_client_itself_downloaded_is_used_without_a_request(hub):
    commit = hub.commit(REPO, FILES)
    snapshot_download(REPO, revision=commit, endpoint=hub.url)
    hub.requests.clear()
    assert read(fetch(f"{REPO}@{commit}", endpoint=hub.url).folder) == FILES
    assert hub.requests == []


def test_what_was_fetched_is_found_by_the_client_itself(hub):
    commit = hub.commit(REPO, FILES, "v1")
    folder = fetch(f"{REPO}@v1", endpoint=hub.url).folder
    for revision in (commit, "v1"):
        assert Path(snapshot_download(REPO, revision=revision, local_files_only=True)) == folder


def test_a_part_of_a_commit_in_the_cache_is_completed(hub):
    commit = hub.commit(REPO, FILES)
    hf_hub_download(REPO, "config.json", revision=commit, endpoint=hub.url)
    assert read(fetch(f"{REPO}@{commit}", endpoint=hub.url).folder) == FILES


def test_the_tensors_enter_the_cache_last():
    assert list(MAX_BYTES)[-1] == "model.safetensors"


def test_where_links_cannot_be_made_files_are_copied(hub, monkeypatch):
    def refuse(*args: object) -> None:
        raise OSError("a required privilege is not held by the client")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    commit = hub.commit(REPO, FILES)
    folder = fetch(REPO, endpoint=hub.url).folder
    assert not any(path.is_symlink() for path in folder.iterdir())
    assert read(fetch(f"{REPO}@{commit}", endpoint=hub.url).folder) == FILES
    hub.requests.clear()
    assert fetch(f"{REPO}@{commit}", endpoint=hub.url).folder == folder
    assert hub.requests == []


def test_a_cache_that_cannot_be_written_is_said(hub, tmp_path):
    hub.commit(REPO, FILES)
    (tmp_path / "file").touch()
    message = refusal(REPO, hub, cache_dir=tmp_path / "file")
    assert f"the cache {tmp_path / 'file'} cannot be written" in message
    assert "HF_HOME" in message


def test_a_note_of_a_revision_that_is_no_commit_is_not_followed(hub, tmp_path, monkeypatch):
    commit = hub.commit(REPO, FILES)
    cache = fetch(REPO, endpoint=hub.url).folder.parents[1]
    (cache / "refs/main").write_text("../../elsewhere")
    assert fetch(REPO, endpoint=hub.url).commit == commit
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    (cache / "refs/main").write_text("../../elsewhere")
    assert "HF_HUB_OFFLINE" in refusal(REPO, hub)


# Variables of the environment


def test_a_token_in_the_environment_opens_a_gated_repository(hub, monkeypatch):
    hub.commit(REPO, FILES)
    hub.repos[REPO].gated = True
    monkeypatch.setenv("HF_TOKEN", "hf_reader")
    assert read(fetch(REPO, endpoint=hub.url).folder) == FILES


def test_a_token_goes_to_the_hub_and_never_to_its_storage(hub):
    hub.commit(REPO, FILES)
    fetch(REPO, endpoint=hub.url, token="hf_reader")
    assert {request.token for request in hub.requests if request.server == "hub"} == {"hf_reader"}
    assert [request.token for request in hub.requests if request.server == "storage"] == [None]


def test_without_a_token_none_is_sent(hub):
    hub.commit(REPO, FILES)
    fetch(REPO, endpoint=hub.url)
    assert {request.token for request in hub.requests} == {None}


def test_a_token_that_cannot_be_one_is_said(hub):
    assert "HF_TOKEN holds a character" in refusal(REPO, hub, token="hf_tökén")


def test_offline_makes_no_request(hub, tmp_path):
    commit = hub.commit(REPO, FILES, "v1", "main")
    fetch(f"{REPO}@v1", endpoint=hub.url)
    hub.requests.clear()
    code = (
        f"for revision in ('v1', {commit!r}):\n    print(fetch({REPO!r} + '@' + revision))\n"
        f"for other in ('{REPO}', 'org/other', '{REPO}@v2'):\n"
        "    try:\n        print('found', fetch(other))\n    except HubError as error:\n        print(error)"
    )
    said = in_new_process(code, tmp_path, HF_ENDPOINT=hub.url, HF_HUB_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="0")
    lines = said.splitlines()
    assert all(commit in line for line in lines[:2])
    assert len(lines) == 5
    assert all("HF_HUB_OFFLINE forbids to fetch it; unset HF_HUB_OFFLINE" in line for line in lines[2:])
    assert hub.requests == []


def test_a_mirror_is_used_by_its_address_in_the_environment(hub, tmp_path):
    commit = hub.commit(REPO, FILES)
    assert in_new_process(f"print(fetch({REPO!r}).commit)", tmp_path, HF_ENDPOINT=hub.url) == commit
    assert hub.asked_for() == FILES.keys()


# Through load_weights


@pytest.fixture
def asks_this_hub(hub, monkeypatch):
    """load_weights asks this Hub; the client reads HF_ENDPOINT once, when it is imported."""
    monkeypatch.setattr("nsl.weights.folder.fetch", partial(fetch, endpoint=hub.url))
    return hub


def test_weights_of_the_hub_are_used_and_say_which_commit_they_are(asks_this_hub, tiny_weights):
    commit = asks_this_hub.commit(REPO, read(tiny_weights), "v1")
    weights = load_weights(f"{REPO}@v1")
    assert (weights.name, weights.source, weights.revision) == ("tiny", REPO, commit)


def test_a_script_never_gets_other_weights_than_it_asked_for(asks_this_hub):
    with pytest.raises(HubError, match="org/her2 is neither a folder here nor a repository"):
        load_weights(REPO)


@pytest.mark.parametrize("trouble", ["missing", "schema", "pickle", "genes"])
def test_weights_of_the_hub_that_cannot_be_used_are_refused_in_a_sentence(asks_this_hub, tiny_weights, trouble):
    files = read(tiny_weights)
    config = json.loads(files["config.json"])
    if trouble == "schema":
        files["config.json"] = json.dumps(config | {"schema_version": 99}).encode()
    elif trouble == "pickle":
        files["model.safetensors"] = pickle.dumps({"deconvolution": 0})
    elif trouble == "genes":
        files["config.json"] = json.dumps(config | {"genes": [f"G{i}" for i in range(10)]}).encode()
    if trouble != "missing":
        asks_this_hub.commit(REPO, files)
    with pytest.raises(NslError) as refused:
        load_weights(REPO)
    assert "\n" not in str(refused.value)
