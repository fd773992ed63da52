"""`gradalign new KIND NAME`: a part of your own to start from: its yaml, its code and its test."""

import importlib.util
import keyword
import re
from pathlib import Path
from shlex import quote

from gradalign_cli.commands.verb_parser import VerbParser
from gradalign_cli.composition.paths import CONF
from gradalign_cli.errors import UserError, require, require_name
from gradalign_cli.files.writing import make_folder, write_atomically

KINDS = ("method", "buffer", "benchmark", "model")
TEMPLATES = Path(__file__).parents[1] / "templates"
LONGEST_NAME = 60  # letters
TRY_WITH = {"method": "", "buffer": "method=er ", "benchmark": "", "model": ""}


def main(arguments: list[str]) -> int:
    """Write the files of a new part; returns the exit code."""
    parser = VerbParser(
        prog="gradalign new",
        description="A part of your own to start from: its yaml, its code and its test.",
    )
    parser.add_argument("kind", metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("name", metavar="NAME", help="of the part, its function and its files")
    parser.add_argument(
        "--config-dir", metavar="FOLDER", default="mine", help="where to write (default: mine)"
    )
    options = parser.parse_args(arguments)
    require_name(options.kind, KINDS, "KIND", f"one of {', '.join(KINDS)}")
    for path in write_part(options.kind, options.name, Path(options.config_dir)):
        print(f"wrote {path}")
    print(next_commands(options.kind, options.name, options.config_dir))
    return 0


def write_part(kind: str, name: str, folder: Path) -> list[Path]:
    """Write the three files of a part; returns their paths.

    Raises UserError, before anything is written, where the name cannot be used or a file exists.
    """
    check_name(kind, name)
    files = {
        folder / kind / f"{name}.yaml": f"{kind}.yaml.txt",
        folder / f"{name}.py": f"{kind}.py.txt",
        folder / f"test_{name}.py": f"test_{kind}.py.txt",
    }
    for path in files:
        if path.exists() or path.is_symlink():
            raise UserError(f"{path} exists, and is not replaced: choose another NAME")
    if importlib.util.find_spec(name) is not None:
        raise UserError(
            f"`NAME` must not be that of a module that can be imported already, found {name!r}"
        )
    make_folder(folder / kind)
    for path, template in files.items():
        text = (TEMPLATES / template).read_text(encoding="utf-8")
        write_atomically(path, re.sub(r"\bNAME\b", name, text))
    return list(files)


def check_name(kind: str, name: str) -> None:
    """Raise UserError where a name is none of a function, or one of our own parts has it."""
    usable = re.fullmatch(r"[a-z][a-z0-9_]*", name) is not None and not keyword.iskeyword(name)
    domain = f"small letters, digits and _, at most {LONGEST_NAME}, and no word of Python"
    require(usable and len(name) <= LONGEST_NAME, "NAME", domain, name)
    ours = [path.stem for path in (CONF / kind).glob("*.yaml")]
    require(name not in ours, "NAME", f"no {kind} of gradalign's own", name)


def next_commands(kind: str, name: str, config_dir: str) -> str:
    """What to type next."""
    choice = f"{kind}={name} 'plugins=[{name}]' --config-dir {quote(config_dir)}"
    test_file = quote(f"{config_dir}/test_{name}.py")
    return "\n".join(
        [
            "try it, change it, and see whether it keeps the contract:",
            f"  gradalign train {TRY_WITH[kind]}{choice}",
            f"  python -m pytest {test_file}",
            f"  gradalign check {choice}",
        ]
    )
