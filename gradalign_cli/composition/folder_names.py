"""Names of folders: of a run, and of the jobs of a sweep."""

import hashlib
import os
import re

from gradalign_cli.composition.hydra_versions import register_resolver

LONGEST_NAME = 120  # characters of a folder's name; systems allow 255 bytes


def job_folder_name(override_dirname: str) -> str:
    """A name for the folder of a sweep's job, from its overrides as Hydra joins them. A long one is
    cut and ends in a hash of the whole."""
    signs_removed = re.sub(r"(^|,)[+]+", r"\1", override_dirname)
    name = re.sub(r"[^\w.,=+-]+", "_", signs_removed).strip("._") or "job"
    if len(name) > LONGEST_NAME or name != signs_removed:
        digest = hashlib.blake2b(override_dirname.encode(), digest_size=4).hexdigest()
        name = f"{name[: LONGEST_NAME - len(digest) - 1]}_{digest}"
    return name


def register_resolvers() -> None:
    """Let configs use ${unique:}, six random characters, and ${job_folder:OVERRIDES}."""
    register_resolver("unique", lambda: os.urandom(3).hex(), use_cache=True)
    register_resolver("job_folder", job_folder_name)
