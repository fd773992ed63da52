"""Pack what a GPU machine without a network lacks for scripts/gpu_day.py, and unpack it there.

    python scripts/pack_gpu_day.py FOLDER [--python 3.12] [--limit 48] [--data NAME ...]
    python scripts/pack_gpu_day.py FOLDER --unpack [--into DATA_FOLDER]     on that machine

The first downloads the wheels that gradalign depends on, but for torch, torchvision and numpy,
which are there, for this Python on Linux with x86-64, and takes the datasets from $GRADALIGN_DATA.
FOLDER then holds compressed parts of at most `--limit` MiB, so that they can travel one by one, and
a manifest of their checksums. The second checks and joins the parts, installs the wheels and this
working tree with them, and puts the datasets into DATA_FOLDER, by default $GRADALIGN_DATA.

Needs no extra and, to unpack, nothing but Python and pip.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tarfile
import tomllib
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PRESENT = ("torch", "torchvision", "numpy")  # on every machine that has PyTorch
TOOLS = ("pytest-xdist>=3.5", "hatchling>=1.18", "editables")  # to run the tests, and to install
SOURCE_ONLY = ("antlr4-python3-runtime==4.9.*",)  # of omegaconf; a wheel is built of it here
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
WHEELS, MANIFEST = "wheels.tar", "manifest.json"
GZIP = 31  # zlib's number for the format
BLOCK = 2**20  # bytes


def requirements() -> list[str]:
    """What gradalign depends on and that machine lacks, and the tools."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = [
        requirement
        for requirement in project["dependencies"]
        if not requirement.startswith(tuple(f"{name}>" for name in PRESENT))
    ]
    return [*needed, *TOOLS]


def download_wheels(python: str, folder: Path) -> None:
    """Download the wheels of the requirements and of all that they depend on, for a version of
    Python."""
    pip = (sys.executable, "-m", "pip")
    subprocess.run([*pip, "wheel", "--no-deps", "-w", folder, *SOURCE_ONLY], check=True)
    target = ("--python-version", python, "--implementation", "cp")
    platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
    places = ("--only-binary", ":all:", "--find-links", folder, "-d", folder)
    subprocess.run([*pip, "download", *places, *target, *platforms, *requirements()], check=True)
    for wheel in folder.iterdir():
        if wheel.name.split("-")[0] in PRESENT:
            wheel.unlink()


def blocks(path: Path) -> Iterator[bytes]:
    """The bytes of a file, one block after the other."""
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            yield block


def checksum(path: Path) -> str:
    """The SHA-256 of a file."""
    digest = hashlib.sha256()
    for block in blocks(path):
        digest.update(block)
    return digest.hexdigest()


def split_file(source: Path, folder: Path, limit: int) -> dict[str, Any]:
    """Compress a file into parts of at most `limit` bytes; returns its entry of the manifest."""
    compressor = zlib.compressobj(wbits=GZIP)
    parts: list[Path] = []
    waiting = bytearray()

    def write_parts(least: int) -> None:
        """Write parts while at least so many bytes wait."""
        while len(waiting) >= least and waiting:
            parts.append(folder / f"{source.name}.gz.{len(parts):02}")
            parts[-1].write_bytes(waiting[:limit])
            del waiting[:limit]

    for block in blocks(source):
        waiting += compressor.compress(block)
        write_parts(limit)
    waiting += compressor.flush()
    write_parts(1)  # the last
    return {
        "name": source.name,
        "sha256": checksum(source),
        "parts": [{"name": part.name, "sha256": checksum(part)} for part in parts],
    }


def join_file(entry: dict[str, Any], folder: Path, target_folder: Path) -> Path:
    """Join the parts of a file and return its path. Exits where a part is missing or a checksum is
    wrong; the file is then not there."""
    for part in entry["parts"]:
        if not (folder / part["name"]).is_file():
            sys.exit(f"{folder / part['name']} is missing: bring it, and unpack again")
        require_checksum(folder / part["name"], part["sha256"])
    target_folder.mkdir(parents=True, exist_ok=True)
    partial = target_folder / f"{entry['name']}.partial"
    decompressor = zlib.decompressobj(wbits=GZIP)
    with partial.open("wb") as file:
        for part in entry["parts"]:
            for block in blocks(folder / part["name"]):
                file.write(decompressor.decompress(block))
        file.write(decompressor.flush())
    require_checksum(partial, entry["sha256"])
    return partial.replace(target_folder / entry["name"])


def require_checksum(path: Path, expected: str) -> None:
    """Exit where a file has another checksum."""
    actual = checksum(path)
    if actual != expected:
        sys.exit(f"the SHA-256 of {path} must be {expected}, found {actual}: bring it anew")


def pack(folder: Path, python: str, limit: int, datasets: Sequence[Path]) -> None:
    """Fill a folder with the parts of the wheels and the datasets, and the manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as name:
        wheel_folder, archive = Path(name) / "wheels", Path(name) / WHEELS
        wheel_folder.mkdir()
        download_wheels(python, wheel_folder)
        with tarfile.open(archive, "w") as tar:
            tar.add(wheel_folder, "wheels")
        entries = [split_file(path, folder, limit) for path in (archive, *datasets)]
    (folder / MANIFEST).write_text(json.dumps(entries, indent=1) + "\n")
    for entry in entries:
        print(f"{entry['name']}: {len(entry['parts'])} parts")


def unpack(folder: Path, data_folder: Path) -> None:
    """Install the wheels and this working tree, and join the datasets into the data folder."""
    entries = json.loads((folder / MANIFEST).read_text())
    with TemporaryDirectory() as name:
        for entry in entries:
            if entry["name"] != WHEELS:
                print(join_file(entry, folder, data_folder))
                continue
            with tarfile.open(join_file(entry, folder, Path(name))) as tar:
                tar.extractall(name, filter="data")
            install = (sys.executable, "-m", "pip", "install", "--no-index")
            wheels = ("--find-links", str(Path(name) / "wheels"))
            subprocess.run([*install, *wheels, *requirements()], check=True)
            tree = ("--no-deps", "--no-build-isolation", "-e", str(ROOT))
            subprocess.run([*install, *tree], check=True)


def main() -> None:
    """Pack, or with `--unpack` unpack."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    default_data = Path(os.environ.get("GRADALIGN_DATA", "~/.cache/gradalign")).expanduser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--python", default="3.12", help="of the GPU machine (default 3.12)")
    parser.add_argument("--limit", type=float, default=48, help="MiB of a part (default 48)")
    parser.add_argument("--data", nargs="*", default=["mnist", "cifar100"], metavar="NAME")
    parser.add_argument("--unpack", action="store_true")
    parser.add_argument("--into", type=Path, default=default_data, metavar="DATA_FOLDER")
    options = parser.parse_args()
    if options.unpack:
        unpack(options.folder, options.into)
        return
    datasets = [default_data / f"{name}.npz" for name in options.data]
    for path in datasets:
        if not path.is_file():
            sys.exit(f"{path} is missing: `gradalign data prepare {path.stem}` writes it")
    pack(options.folder, options.python, int(options.limit * 2**20), datasets)


if __name__ == "__main__":
    main()
