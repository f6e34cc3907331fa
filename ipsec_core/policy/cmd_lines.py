"""Command lines of Windows: arguments as the C runtime of programs parts them, batch files as cmd reads them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ipsec_core.errors import PolicyError

# What says and does nothing to policies.
_SILENT = re.compile(
    r"@?[ \t]*(?:(?:rem|echo|title|setlocal|endlocal|pause|cls)(?![\w-])|echo\.|:(?!eof))", re.IGNORECASE
)
_END = re.compile(r"@?[ \t]*(?:exit(?![\w-])|goto[ \t]*:eof)", re.IGNORECASE)
_TO_NUL = re.compile(r"[12]?>>?[ \t]*(?:nul(?![\w.])|&[12])", re.IGNORECASE)
_OPERATORS = "&|<>"


def split_arguments(line: str) -> list[str]:
    """The arguments of a command line: parted by blanks outside of quotes; \\" is a double quote, and so is "" inside
    of quotes; backslashes are themselves but before a double quote, where two are one.
    """
    arguments: list[str] = []
    at, end = 0, len(line)
    while True:
        while at < end and line[at] in " \t":
            at += 1
        if at == end:
            return arguments
        text, quoted = "", False
        while at < end and (quoted or line[at] not in " \t"):
            start = at
            while line[at : at + 1] == "\\":
                at += 1
            slashes = line[start:at]
            if not slashes and line[at] != '"':
                text += line[at]
                at += 1
            elif line[at : at + 1] != '"':
                text += slashes
            elif len(slashes) % 2 or (quoted and not slashes and line[at + 1 : at + 2] == '"'):
                text += slashes[: len(slashes) // 2] + '"'
                at += 1 if slashes else 2
            else:
                text += slashes[: len(slashes) // 2]
                quoted = not quoted
                at += 1
        if quoted:
            raise PolicyError('a quote is not closed; accepted: "text", \\" for a double quote in it')
        arguments.append(text)


def batch_lines(script: str) -> Iterator[tuple[int, str]]:
    """The commands of a .cmd or .bat file with the numbers of their lines, but those that only say something (rem, ::,
    echo, pause, ...); up to `exit`. PolicyError where cmd would do more than start a program.
    """
    lines = [line.removesuffix("\r") for line in script.removeprefix("\ufeff").split("\n")]
    at = 0
    while at < len(lines):
        number, line = at + 1, lines[at].strip(" \t")
        at += 1
        if _END.match(line):
            return
        if _SILENT.match(line):
            continue
        pieces = [line]
        quoted = _is_open(line)
        while at < len(lines) and not quoted and _carets_at_end(pieces[-1]) % 2:
            pieces[-1] = pieces[-1][:-1]
            pieces.append(lines[at])
            quoted = _is_open(lines[at])
            at += 1
        line = "".join(pieces)
        if line:
            yield number, line


def _is_open(line: str) -> bool:
    """Whether a quote is not closed; carets at its end are then themselves."""
    return line.count('"') % 2 == 1


def _carets_at_end(line: str) -> int:
    return len(line) - len(line.rstrip("^"))


def expand(line: str) -> str:
    """What cmd hands to a program: carets and doubled percent signs resolved, output to NUL left out."""
    line = line.removeprefix("@")
    text, quoted, at = "", False, 0
    while at < len(line):
        char = line[at]
        nul = None if quoted else _TO_NUL.match(line, at)
        if nul and (char in "<>" or line[at - 1 : at] in ("", " ", "\t")):
            at = nul.end()
            continue
        if char == "%":
            if line[at + 1 : at + 2] != "%":
                raise PolicyError("variables are not expanded here; accepted: %% for a percent sign")
            at += 1
        elif char == "^" and not quoted:
            at += 1
            char = line[at : at + 1]
        elif char in _OPERATORS and not quoted:
            raise PolicyError(f"cmd's {char} is not carried out here; accepted: one program a line, ^{char} for itself")
        elif char == '"':
            quoted = not quoted
        text += char
        at += 1
    return text
