"""Diagnosis of a JSON file that cannot be parsed, and what to do about it.

It is made only after a parser has refused the file, so it may take its time. It never
decides whether a file is readable.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

import msgspec
from typing_extensions import override

__all__ = ["Diagnosis", "diagnose"]

_BOM: Final = codecs.BOM_UTF8
_SPACE: Final = b" \t\r\n"
_SAMPLE: Final = 4096
_LARGE: Final = 64 << 20
"""Bytes of a file above which its brackets are not scanned: that would take too long."""
_MOSTLY: Final = 0.8
"""Share of NUL bytes that only a wide encoding has at every second or fourth place."""
_ENCODINGS: Final = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
_BY_NUL: Final[Mapping[tuple[bool, ...], str]] = {
    (False, True, True, True): "UTF-32LE",
    (True, True, True, False): "UTF-32BE",
    (False, True, False, True): "UTF-16LE",
    (True, False, True, False): "UTF-16BE",
}
"""Encodings by the positions of NUL bytes in mostly ASCII text."""
_ARCHIVES: Final = (
    (b"\x1f\x8b", "gzip", "gunzip"),
    (b"PK\x03\x04", "zip", "unzip"),
    (b"PK\x05\x06", "zip", "unzip"),
    (b"\x28\xb5\x2f\xfd", "zstd", "unzstd"),
    (b"BZh", "bzip2", "bunzip2"),
    (b"\xfd7zXZ\x00", "xz", "unxz"),
)
_CONFLICT: Final = re.compile(
    rb"^(?:<{7}(?: |\r?$)|={7}\r?$|>{7}(?: |\r?$))", re.MULTILINE
)
_HTML: Final = re.compile(rb"\s*<(?:!doctype|html|\?xml)", re.IGNORECASE).match
# The first thing outside of strings that JSON does not have. A string is matched first,
# so that nothing inside of it counts, also where the file ends inside of it.
_TOKEN: Final = re.compile(
    rb'"(?:[^"\\]|\\.)*+(?:"|\Z)'
    rb"|(?P<comment>//|/\*|\#)"
    rb"|(?P<comma>,[ \t\r\n]*[\]}])"
    rb"|(?P<nan>-?\b(?:NaN|Infinity|nan|inf)\b)"
    rb"|(?P<python>\b(?:None|True|False)\b)"
    rb"|(?P<quote>')"
    rb"|(?P<name>(?<=[{,\s])[A-Za-z_$][\w$]*\s*:)",
    re.DOTALL,
)
_RAW: Final = msgspec.json.Decoder(msgspec.Raw).decode


class Diagnosis(NamedTuple):
    """Diagnosis of one file."""

    looks: str
    """Finding, as a clause."""
    remedy: str
    """Remedy, as a sentence."""

    @override
    def __str__(self) -> str:
        return f"{self.looks}. {self.remedy}"


_TOKENS: Final[dict[str, Diagnosis]] = {
    "comment": Diagnosis(
        "it has a comment in {line}", "Take the comments out: JSON has none"
    ),
    "comma": Diagnosis(
        "it has a comma behind the last item, in {line}", "Take that comma out"
    ),
    "nan": Diagnosis(
        "it has NaN or Infinity in {line}",
        "Put null or a number in its place: JSON has neither",
    ),
    "python": Diagnosis(
        "it is a Python value, not JSON (None, True or False in {line})",
        "Write it again with json.dump instead of str or repr",
    ),
    "quote": Diagnosis(
        "it has single quotation marks, in {line}, as Python and JavaScript write them",
        'Write it again with json.dump or JSON.stringify: JSON has " alone',
    ),
    "name": Diagnosis(
        "it has a member name without quotation marks, in {line}, as JavaScript takes it",
        "Write it again with JSON.stringify",
    ),
}


def diagnose(raw: bytes, *, half_written: bool = False) -> Diagnosis | None:
    """Diagnose a file that a parser has refused.

    Args:
        raw: the whole file.
        half_written: the parser reports that the file ends too early.

    Returns:
        The diagnosis; None where no known damage fits.
    """
    diagnosers = (
        _DIAGNOSERS if len(raw) > _LARGE else (*_DIAGNOSERS, _documents, _first_token)
    )
    for diagnoser in diagnosers:
        found = diagnoser(raw)
        if found is not None:
            return found
    if half_written:
        return Diagnosis(
            "it ends in the middle: the program that wrote it was interrupted, or still writes",
            "Restore it from a backup, or complete it",
        )
    return None


def _empty(raw: bytes) -> Diagnosis | None:
    if raw.removeprefix(_BOM).strip(_SPACE):
        return None
    size = "0 bytes" if not raw else "nothing but white space"
    return Diagnosis(
        f"it has {size}, as after a write that was interrupted",
        "Restore it from a backup; if it never had a record, write [] or {} into it",
    )


def _nul_filled(raw: bytes) -> Diagnosis | None:
    remedy = "Restore it from a backup: its content is lost"
    if not raw.strip(b"\x00"):
        return Diagnosis("it is filled with NUL bytes, as after a power cut", remedy)
    if raw.endswith(b"\x00" * 16) or raw.startswith(b"\x00" * 16):
        return Diagnosis("a part of it is NUL bytes, as after a power cut", remedy)
    return None


def _wide_encoding(raw: bytes) -> Diagnosis | None:
    name = next((name for mark, name in _ENCODINGS if raw.startswith(mark)), None)
    how = ""
    if name is None:
        name, how = _without_mark(raw[:_SAMPLE]), " without a byte order mark"
    if name is None:
        return None
    return Diagnosis(
        f"it is {name}{how}, as PowerShell and Notepad write it",
        f"Convert it: iconv -f {name} -t UTF-8",
    )


def _without_mark(sample: bytes) -> str | None:
    """Guess a wide encoding without a byte order mark, from the first bytes."""
    nul = [_share_of_nul(sample[place::4]) > _MOSTLY for place in range(4)]
    return _BY_NUL.get(tuple(nul))


def _share_of_nul(sample: bytes) -> float:
    return sample.count(0) / len(sample) if sample else 0.0


def _compressed(raw: bytes) -> Diagnosis | None:
    for mark, name, command in _ARCHIVES:
        if raw.startswith(mark):
            return Diagnosis(f"it is a {name} file", f"Unpack it with {command}")
    return None


def _web_page(raw: bytes) -> Diagnosis | None:
    if not _HTML(raw):
        return None
    return Diagnosis(
        "it is HTML or XML, such as a page that says that a download failed",
        "Fetch the file again, or restore it from a backup",
    )


def _conflict(raw: bytes) -> Diagnosis | None:
    found = _CONFLICT.search(raw)
    if found is None:
        return None
    return Diagnosis(
        f"it has the marks of a merge conflict, in {_line(raw, found.start())}",
        "Decide between the two sides, and take the marks out",
    )


def _other_bytes(raw: bytes) -> Diagnosis | None:
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        place = _line(raw, error.start)
        if error.end == len(raw) and error.reason == "unexpected end of data":
            return None  # cut off
        return Diagnosis(
            f"it has the byte 0x{raw[error.start]:02x} in {place}, which is not UTF-8; "
            "it may be Latin-1 or Windows-1252",
            "Convert it: iconv -f WINDOWS-1252 -t UTF-8",
        )
    return None


def _marks(raw: bytes) -> Diagnosis | None:
    """Diagnose byte order marks: two of them, or one before valid JSON."""
    text = raw.removeprefix(_BOM)
    if text.startswith(_BOM):
        how = "it begins with two byte order marks"
    elif text is not raw and _is_json(text):
        how = "it begins with a byte order mark"
    else:
        return None
    return Diagnosis(how, "Take it out, or save the file as UTF-8 without BOM")


def _documents(raw: bytes) -> Diagnosis | None:
    """Diagnose several JSON texts in one file, or rests of a longer one."""
    text = raw.removeprefix(_BOM)
    lines = [line for line in text.splitlines() if line.strip(_SPACE)]
    if len(lines) > 1 and all(map(_is_json, lines)):
        return Diagnosis(
            "it is JSON lines: one JSON text in each line",
            "Make one list of them: jq -s .",
        )
    place = _end_of_first(text)
    rest = b"" if place is None else text[place:].lstrip(_SPACE)
    if not rest:
        return None
    line = _line(text, len(text) - len(rest))
    if _is_json(rest):
        return Diagnosis(
            f"it is two JSON texts, one behind the other; the second begins in {line}",
            "Keep one of the two",
        )
    return Diagnosis(
        f"something stands behind the end of the JSON, in {line}, as where a shorter "
        "text was written over a longer one",
        "Take it out, after a look whether what stands before it is complete",
    )


def _end_of_first(text: bytes) -> int | None:
    """Find the end of the first object or list by counting brackets; None: no JSON."""
    depth = 0
    for found in re.finditer(rb'"(?:[^"\\]|\\.)*+"|([\[{])|([\]}])', text, re.DOTALL):
        depth += bool(found[1]) - bool(found[2])
        if found[2] and depth <= 0:
            return found.end() if _is_json(text[: found.end()]) else None
    return None


_DIAGNOSERS: Final[tuple[Callable[[bytes], Diagnosis | None], ...]] = (
    _empty,
    _nul_filled,
    _compressed,
    _wide_encoding,
    _web_page,
    _conflict,
    _other_bytes,
    _marks,
)


def _first_token(raw: bytes) -> Diagnosis | None:
    """Diagnose the first token outside of strings that JSON does not have."""
    if _is_json(raw):
        return None  # it is JSON, only of another shape than the layout expects
    for kind, place in _strange(raw):
        looks, remedy = _TOKENS[kind]
        return Diagnosis(looks.format(line=_line(raw, place)), remedy)
    return None


def _strange(raw: bytes) -> Iterator[tuple[str, int]]:
    for found in _TOKEN.finditer(raw):
        if found.lastgroup is not None:
            yield found.lastgroup, found.start()


def _is_json(text: bytes) -> bool:
    try:
        _RAW(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _line(raw: bytes, place: int) -> str:
    number = raw.count(b"\n", 0, place) + 1
    return f"line {number:,}"
