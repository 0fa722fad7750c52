"""Weights uploaded as a zip: what is taken out of it, and what a zip cannot do."""

import io
import zipfile

import pytest

from nsl import load_weights
from nsl.errors import WeightsError
from nsl.web.sources import unpack

FILES = ("README.md", "config.json", "model.safetensors", "reliability.csv")


def zipped(members: dict[str, bytes], compression=zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.fixture
def members(tiny_weights) -> dict[str, bytes]:
    return {name: (tiny_weights / name).read_bytes() for name in FILES}


@pytest.mark.parametrize("below", ["", "tiny/", "a/b/c/", "/", "../../"])
def test_a_folder_is_unpacked_wherever_in_the_zip_it_lies_and_nothing_lands_elsewhere(members, tmp_path, below):
    inside = tmp_path / "session" / "upload"
    before = set(tmp_path.rglob("*"))
    folder = unpack(zipped({below + name: content for name, content in members.items()}), inside)
    assert load_weights(folder).genes == ["ERBB2", "CD24", "COX6C"]
    assert {path for path in set(tmp_path.rglob("*")) - before if path.is_file()} == {inside / name for name in FILES}


def test_what_else_is_in_the_zip_is_left_there(members, tmp_path):
    more = {"model.pkl": b"\x80", "../evil.py": b"x", "sub/weights.bin": b"y", ".hidden": b"z"}
    folder = unpack(zipped(members | more), tmp_path / "upload")
    assert sorted(path.name for path in folder.iterdir()) == list(FILES)
    assert not (tmp_path / "evil.py").exists()


@pytest.mark.parametrize("separator", ["/", "\\"])
def test_what_lies_in_other_folders_is_not_of_the_weights(members, tmp_path, separator):
    own = {f"tiny{separator}{name}": content for name, content in members.items()}
    other = {f"{folder}{separator}{name}": b"x" for folder in ("docs", "__MACOSX") for name in FILES[:1]}
    other[f"__MACOSX{separator}config.json"] = b"{}"
    assert load_weights(unpack(zipped(own | other), tmp_path / "upload")).genes == ["ERBB2", "CD24", "COX6C"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("second", ["tiny/config.json", "other/config.json"])
def test_a_zip_of_two_configs_is_refused(members, tmp_path, second):
    content = io.BytesIO(zipped({f"tiny/{name}": part for name, part in members.items()}))
    with zipfile.ZipFile(content, "a") as archive:
        archive.writestr(second, b"{}")
    with pytest.raises(WeightsError, match=r"^the zip holds config\.json twice; zip one weights folder$"):
        unpack(content.getvalue(), tmp_path / "upload")


@pytest.mark.parametrize("name", FILES)
def test_a_zip_without_a_file_of_the_folder_is_told_which(members, tmp_path, name):
    del members[name]
    with pytest.raises(WeightsError, match=f"the zip has no {name}; zip the whole weights folder"):
        unpack(zipped(members), tmp_path / "upload")


def test_a_folder_named_as_a_file_is_not_that_file(members, tmp_path):
    members["config.json/"] = b""
    del members["config.json"]
    with pytest.raises(WeightsError, match=r"the zip has no config\.json"):
        unpack(zipped(members), tmp_path / "upload")


@pytest.mark.parametrize("name", FILES)
def test_a_small_zip_of_a_huge_file_is_refused_before_it_is_unpacked(members, tmp_path, name):
    content = zipped(members | {name: bytes(17_000_000)})
    assert len(content) < 100_000
    with pytest.raises(WeightsError, match=rf"{name} in the zip has 17,000,000 bytes; weights need fewer than"):
        unpack(content, tmp_path / "upload")
    assert not (tmp_path / "upload" / name).exists()


def test_a_file_larger_than_the_zip_says_is_not_written_in_full(members, tmp_path):
    content = bytearray(zipped(members | {"README.md": bytes(17_000_000)}))
    entry = content.rindex(b"README.md") - 46  # in the directory at the end of the zip
    assert content[entry : entry + 4] == b"PK\x01\x02"
    content[entry + 24 : entry + 28] = (1_000).to_bytes(4, "little")  # how large it says to be
    with pytest.raises(WeightsError, match="the zip cannot be read"):
        unpack(bytes(content), tmp_path / "upload")
    assert sum(path.stat().st_size for path in (tmp_path / "upload").iterdir()) < 100_000


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"Dear colleague", bytes(100_000)])
def test_what_is_no_zip_is_told(tmp_path, content):
    with pytest.raises(WeightsError, match=r"the zip cannot be read .*; zip the weights folder again"):
        unpack(content, tmp_path / "upload")


def test_a_locked_zip_is_told(members, tmp_path):
    content = bytearray(zipped(members))
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = -1
        while (start := content.find(mark, start + 1)) >= 0:
            content[start + at] |= 1  # encrypted
    with pytest.raises(WeightsError, match="the zip is protected by a password; zip the weights folder"):
        unpack(bytes(content), tmp_path / "upload")
