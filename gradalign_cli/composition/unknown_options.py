"""What was meant by an option that a parser does not know."""

import argparse
import re

from gradalign_cli.errors import did_you_mean


def near_options(message: str, parser: argparse.ArgumentParser) -> str:
    """The end of a sentence about a mistake on the command line: the options that an unknown one is
    most like; empty where none is, or where the mistake is another."""
    unknown = re.search(r"unrecognized arguments: (--\w[\w-]*)", message)
    options = [text for action in parser._actions for text in action.option_strings]
    return did_you_mean(unknown[1], options) if unknown else ""
