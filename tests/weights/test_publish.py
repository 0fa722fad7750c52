"""What `publish` promises: exactly a weights folder goes to the Hub, in one commit, and comes back equal."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import constants

from nsl.cli import main
from nsl.errors import HubError, NslError, WeightsError
from nsl.weights import publish as publish_module
from nsl.weights.folder import load_weights
from nsl.weights.hub import fetch
from nsl.weights.hub_cache import MAX_BYTES
from nsl.weights.publish import SentFile, publish
from tests.fake_hub import FakeHub

# The Hub's client uploads in a way that its own HTTP library will give up.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

ROOT = Path(__file__).parents[2]
REPO = "org/tiny"
FILES = ["README.md", "config.json", "model.safetensors", "reliability.csv"]


@pytest.fixture
def send(hub, tiny_weights):
    """Publishes the tiny weights to REPO with a token that may write."""

    def run(**options):
        return publish(tiny_weights, REPO, **{"endpoint": hub.url, "token": "hf_writer"} | options)

    return run


def read(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def published(hub: FakeHub) -> dict[str, bytes]:
    there = hub.repos[REPO]
    return there.commits[there.refs["main"]]


def refusal(send, kind: type[NslError] = HubError, **options) -> str:
    with pytest.raises(kind) as caught:
        send(**options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# What is sent


def test_what_is_published_is_fetched_back_equal(hub, send, tiny_weights):
    pin = send().pin
    folder = fetch(pin, endpoint=hub.url).folder
    assert read(folder) == read(tiny_weights)
    assert load_weights(folder).sha256 == load_weights(tiny_weights).sha256


def test_the_pin_names_the_one_commit_that_was_made(hub, send):
    sent = send()
    assert list(hub.repos[REPO].commits) == [sent.commit]
    assert sent.pin == f"{REPO}@{sent.commit}"


def test_nothing_but_the_files_of_a_weights_folder_is_sent(hub, send, tiny_weights):
    for name in ("notes.txt", "model.pkl", ".token", "spots.csv"):
        (tiny_weights / name).write_text("private")
    assert [file.path for file in send().files] == FILES
    assert sorted(published(hub)) == FILES


def test_other_files_of_the_repository_stay(hub, send):
    hub.commit(REPO, {".gitattributes": b"*.safetensors filter=lfs\n"})
    send()
    assert published(hub)[".gitattributes"]


def test_the_same_files_again_make_no_commit(hub, send, capfd):
    first = send()
    assert send() == first
    assert len(hub.repos[REPO].commits) == 1
    assert capfd.readouterr() == ("", "")


def test_a_token_never_goes_to_the_storage(hub, send):
    send()
    assert {request.token for request in hub.requests if request.server == "storage"} == {None}


# Trying it first


def test_a_dry_run_tells_every_file_and_sends_nothing(hub, send, tiny_weights):
    planned = send(dry_run=True)
    content = {name: (tiny_weights / name).read_bytes() for name in FILES}
    assert planned.files == tuple(
        SentFile(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in content.items()
    )
    assert (planned.repo, planned.private, planned.commit, planned.pin) == (REPO, False, None, None)
    assert hub.requests == []


def test_a_dry_run_tells_what_is_then_sent(hub, send):
    planned = send(dry_run=True, private=True)
    sent = send(private=True)
    assert (planned.repo, planned.private, planned.files) == (sent.repo, sent.private, sent.files)
    assert {file.path: file.sha256 for file in planned.files} == {
        name: hashlib.sha256(data).hexdigest() for name, data in published(hub).items()
    }


# Who may see it


def test_a_private_repository_is_closed_to_those_without_a_token(hub, send):
    sent = send(private=True)
    assert sent.private
    with pytest.raises(HubError, match="nor a repository"):
        fetch(sent.pin, endpoint=hub.url)
    assert fetch(sent.pin, endpoint=hub.url, token="hf_reader").commit == sent.commit


def test_without_the_flag_a_new_repository_is_public(hub, send):
    assert not send().private
    assert not hub.repos[REPO].private


def test_private_weights_are_never_sent_to_a_repository_that_is_public(hub, send):
    before = hub.commit(REPO, {"README.md": b"#"})
    assert "org/tiny exists and is public, nothing was sent" in refusal(send, private=True)
    assert list(hub.repos[REPO].commits) == [before]
    assert not hub.objects


def test_a_repository_that_is_private_stays_so_and_that_is_told(send):
    send(private=True)
    assert send().private


# What cannot be published


def test_a_folder_that_does_not_load_is_refused_before_any_request(hub, send, tiny_weights):
    (tiny_weights / "model.safetensors").write_bytes(b"not tensors")
    assert "tiny/model.safetensors is damaged" in refusal(send, WeightsError)
    assert hub.requests == []


def test_a_folder_without_a_model_card_is_refused(hub, send, tiny_weights):
    (tiny_weights / "README.md").unlink()
    assert "tiny/README.md cannot be read" in refusal(send, WeightsError)
    assert hub.requests == []


def test_a_file_that_nobody_could_fetch_again_is_refused(hub, send, monkeypatch):
    monkeypatch.setitem(MAX_BYTES, "README.md", 100)
    assert "tiny/README.md has" in refusal(send, WeightsError)
    assert hub.requests == []


@pytest.mark.parametrize("repo", ["tiny", "org/tiny/v1", "https://huggingface.co/org/tiny", "org/tiny@v1", ""])
def test_a_name_that_is_no_repository_is_refused(hub, tiny_weights, repo):
    with pytest.raises(HubError, match=r"is not a name on the Hub|publish to org/tiny"):
        publish(tiny_weights, repo, endpoint=hub.url)
    assert hub.requests == []


@pytest.mark.parametrize(("token", "status"), [(False, 401), ("hf_reader", 403)])
def test_a_token_that_may_not_write_is_told(hub, send, token, status):
    message = refusal(send, token=token)
    assert f"refuses to publish to org/tiny ({status}); set HF_TOKEN to a token that may write there" in message
    assert not hub.repos


def test_a_repository_of_somebody_else_is_refused(hub, send):
    before = hub.commit(REPO, {"README.md": b"#"})
    assert "set HF_TOKEN" in refusal(send, token="hf_reader")
    assert list(hub.repos[REPO].commits) == [before]


def test_a_token_that_may_write_but_not_make_repositories_will_do(hub, send):
    hub.commit(REPO, {"README.md": b"#"})
    send()
    assert "/api/repos/create" not in {request.path for request in hub.requests}


def test_a_model_card_that_the_hub_does_not_read_is_refused(hub, send, tiny_weights):
    (tiny_weights / "README.md").write_text("---\ntags: [\n---\n# tiny\n")
    assert "refuses the model card (Invalid metadata in README.md" in refusal(send)
    assert not hub.repos[REPO].commits


@pytest.mark.parametrize("status", [400, 429, 500])
def test_an_error_of_the_server_is_told(hub, send, status):
    hub.status = status
    assert str(status) in refusal(send)


def test_a_login_page_in_place_of_the_hub_is_told(hub, send):
    hub.portal = True
    assert "publishing to org/tiny failed: 127.0.0.1:" in refusal(send)


def test_a_hub_out_of_reach_is_told(send):
    assert "127.0.0.1:1 cannot be reached" in refusal(send, endpoint="http://127.0.0.1:1")


def test_a_hub_that_never_answers_is_left(hub, send, monkeypatch):
    monkeypatch.setattr(publish_module, "PATIENCE_S", 0.5)
    hub.silent = True
    assert "does not answer in time" in refusal(send)


def test_offline_nothing_is_published(hub, send, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE forbids" in refusal(send)
    assert send(dry_run=True).files
    assert hub.requests == []


# On the command line


def test_the_command_publishes_and_prints_the_pin(hub, tiny_weights, tmp_path):
    env = os.environ | {"HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_writer", "HF_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-m", "nsl", "publish", str(tiny_weights), REPO, "--private"]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    pin, visibility = done.stdout.splitlines()[-1].split()
    assert fetch(pin, endpoint=hub.url, token="hf_reader").folder.is_dir()
    assert visibility == "(private)"


def test_the_command_lists_what_it_would_send(hub, tiny_weights, capsys):
    assert main(["publish", str(tiny_weights), REPO, "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:-1]] == FILES
    assert all(hashlib.sha256((tiny_weights / line.split()[0]).read_bytes()).hexdigest() in line for line in lines[:-1])
    assert lines[-1] == "would go to org/tiny (public); nothing was sent"


@pytest.mark.parametrize("argv", [["none", REPO], [".", REPO], ["--dry-run", ".", "tiny"], ["."], []])
def test_the_command_says_bad_input_in_one_line(tmp_path, monkeypatch, capsys, argv):
    monkeypatch.chdir(tmp_path)
    assert main(["publish", *argv]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("nsl: error: ")
    assert err.count("\n") == 1
