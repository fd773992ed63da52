"""What travels to a GPU machine in parts arrives as it was, or is refused."""

import random
import re

import pytest

from tests.script_modules import load_script

LIMIT = 1000  # bytes of a part


@pytest.fixture(scope="module")
def packer():
    """The script as a module."""
    return load_script("pack_gpu_day")


@pytest.fixture
def packed(packer, tmp_path):
    """A file of 2500 random bytes and zeros, its entry, and the folder of its parts."""
    source, parts = tmp_path / "digits.npz", tmp_path / "parts"
    source.write_bytes(random.Random(0).randbytes(2500) + bytes(5000))
    parts.mkdir()
    return source, packer.split_file(source, parts, LIMIT), parts


def test_joined_parts_are_the_file_and_none_is_over_the_limit(packer, packed, tmp_path):
    source, entry, parts = packed
    sizes = [(parts / part["name"]).stat().st_size for part in entry["parts"]]
    assert len(sizes) == 3
    assert max(sizes) == LIMIT
    joined = packer.join_file(entry, parts, tmp_path / "data")
    assert joined == tmp_path / "data" / source.name
    assert joined.read_bytes() == source.read_bytes()


@pytest.mark.parametrize("content", [b"", bytes(3 * LIMIT)], ids=["empty", "zeros"])
def test_a_file_that_fits_is_one_part(content, packer, tmp_path):
    source = tmp_path / "file"
    source.write_bytes(content)
    entry = packer.split_file(source, tmp_path, LIMIT)
    assert len(entry["parts"]) == 1
    assert packer.join_file(entry, tmp_path, tmp_path / "data").read_bytes() == content


def test_a_part_with_another_checksum_is_refused_by_name(packer, packed, tmp_path):
    _, entry, parts = packed
    wrong = parts / entry["parts"][1]["name"]
    content = bytearray(wrong.read_bytes())
    content[10] ^= 1
    wrong.write_bytes(content)
    with pytest.raises(SystemExit, match=f"the SHA-256 of .*{re.escape(wrong.name)} must be"):
        packer.join_file(entry, parts, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_a_part_that_did_not_come_is_named(packer, packed, tmp_path):
    _, entry, parts = packed
    (parts / entry["parts"][2]["name"]).unlink()
    with pytest.raises(SystemExit, match=re.escape(f"{entry['parts'][2]['name']} is missing")):
        packer.join_file(entry, parts, tmp_path / "data")


def test_a_whole_with_another_checksum_is_not_put_in_its_place(packer, packed, tmp_path):
    _, entry, parts = packed
    entry = entry | {"parts": entry["parts"][::-1]}
    with pytest.raises((SystemExit, packer.zlib.error)):
        packer.join_file(entry, parts, tmp_path / "data")
    right_parts = entry | {"parts": entry["parts"][::-1], "sha256": "0"}
    with pytest.raises(SystemExit, match=r"digits.npz.partial must be 0, found"):
        packer.join_file(right_parts, parts, tmp_path / "data")
    assert not (tmp_path / "data" / "digits.npz").exists()


def test_what_a_machine_with_pytorch_has_is_not_packed(packer):
    names = {re.match(r"[\w-]+", requirement)[0] for requirement in packer.requirements()}
    assert names >= {"hydra-core", "omegaconf", "scipy", "rich", "pytest", "pytest-xdist"}
    assert not names & {"torch", "torchvision", "numpy"}
