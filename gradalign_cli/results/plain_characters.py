"""Plain characters in the place of those that a terminal's encoding does not have."""

import codecs
import unicodedata

PLAIN_TEXT = {
    "±": "+-",
    "×": "x",
    "°": " deg",
    "µ": "u",
    "…": "...",
    "–": "-",
    "—": "-",
    "−": "-",
    "→": "->",
    "←": "<-",
    "≤": "<=",
    "≥": ">=",
    "‘": "'",
    "’": "'",
    "“": '"',
    "”": '"',
    "•": "*",
}


def register_plain_characters() -> None:
    """Let `plain` be a way to encode text: `errors="plain"`."""
    codecs.register_error("plain", plain_characters)


def in_encoding(text: str, encoding: str) -> str:
    """The text with plain characters in the place of those that the encoding does not have."""
    register_plain_characters()
    return text.encode(encoding, "plain").decode(encoding)


def plain_characters(error: UnicodeError) -> tuple[str, int]:
    """What stands for the characters that cannot be encoded, and where to go on."""
    assert isinstance(error, UnicodeEncodeError)
    text = error.object[error.start : error.end]
    return "".join(map(plain_character, text)), error.end


def plain_character(character: str) -> str:
    """One character in ASCII."""
    if character in PLAIN_TEXT:
        return PLAIN_TEXT[character]
    if "\udc80" <= character <= "\udcff":  # a byte of a file's name that is no text
        return f"\\x{ord(character) - 0xDC00:02x}"
    letters = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return letters or "?"
