"""Lines of `netsh ipsec static`: commands, their tags, quotes, abbreviations.

    [netsh] [ipsec] [static] add|set|delete|show|exportpolicy|importpolicy NOUN TAG=VALUE ...

A tag may be left out where its value stands at its place; commands and tags may be cut short as long as one remains.
Inside of quotes, \\' is a double quote.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from ipsec_core.errors import PolicyError

_T = TypeVar("_T")

AUTHENTICATION_TAGS = ("kerberos", "psk", "rootca")
_MAIN_MODE = ("mmpfs", "qmpermm", "mmlifetime", "activatedefaultrule", "pollinginterval", "assign", "mmsecmethods")
_NEGOTIATION = ("qmpfs", "inpass", "soft", "action", "qmsecmethods")
_RULE = ("filterlist", "filteraction", "tunnel", "conntype", "activate")
_MASKS_AND_PORTS = ("srcmask", "dstmask", "srcport", "dstport")

# In the order in which netsh takes values without a tag.
TAGS: dict[tuple[str, str], tuple[str, ...]] = {
    ("add", "policy"): ("name", "description", *_MAIN_MODE),
    ("set", "policy"): ("name", "newname", "description", *_MAIN_MODE, "guid"),
    ("delete", "policy"): ("name", "all"),
    ("add", "filterlist"): ("name", "description"),
    ("set", "filterlist"): ("name", "newname", "description", "guid"),
    ("delete", "filterlist"): ("name", "all"),
    ("add", "filter"): ("filterlist", "srcaddr", "dstaddr", "description", "protocol", "mirrored", *_MASKS_AND_PORTS),
    ("delete", "filter"): ("filterlist", "srcaddr", "dstaddr", "protocol", *_MASKS_AND_PORTS, "mirrored"),
    ("add", "filteraction"): ("name", "description", *_NEGOTIATION),
    ("set", "filteraction"): ("name", "newname", "description", *_NEGOTIATION, "guid"),
    ("delete", "filteraction"): ("name", "all"),
    ("add", "rule"): ("name", "policy", *_RULE, "description", *AUTHENTICATION_TAGS),
    ("set", "rule"): ("name", "policy", "newname", "description", *_RULE, *AUTHENTICATION_TAGS, "id"),
    ("delete", "rule"): ("name", "policy", "all", "id"),
    ("set", "defaultrule"): ("policy", "qmpfs", "activate", "qmsecmethods", *AUTHENTICATION_TAGS),
    ("set", "store"): ("location", "domain"),
    ("set", "batch"): ("mode",),
    ("delete", "all"): (),
    # Ours.
    ("delete", "defaultrule"): ("policy",),
}
# Ours, for what the model has and netsh has no word for. Never cut short, so that what netsh takes means what it did.
OWN_TAGS: dict[tuple[str, str], tuple[str, ...]] = {
    ("add", "policy"): ("softsaexpirationtime",),
    ("set", "policy"): ("softsaexpirationtime",),
    ("set", "filterlist"): ("unique",),
    ("add", "filter"): ("srcname", "dstname"),
    ("add", "filteraction"): ("qmpfsgroup",),
    ("set", "filteraction"): ("qmpfsgroup", "unique"),
    ("set", "rule"): ("unique",),
    ("set", "defaultrule"): (
        *("name", "description", "conntype", "inpass", "soft", "qmpfsgroup", "actionname", "actiondescription"),
    ),
}
_VERBS = ("add", "set", "delete", "show", "exportpolicy", "importpolicy")
_SESSION = ("pushd", "popd", "..", "exit", "quit", "bye")
_ENDS = ("exit", "quit", "bye")

_TAG = re.compile(r"([A-Za-z]\w*)[ \t]*=([ \t]*)", re.ASCII)
_VALUE = re.compile(r'(?:[^ \t"]|"[^"]*")+')
_QUOTED = re.compile(r'"([^"]*)"')
_UNQUOTABLE = re.compile(r"[\r\n\ud800-\udfff]|\\'")


@dataclass(frozen=True, slots=True)
class _Word:
    text: str
    tag: str | None
    bare: bool  # neither tagged nor quoted


class Command:
    """One command and the values of its tags, in the order of the line."""

    def __init__(self, verb: str, noun: str, values: tuple[tuple[str, str], ...]) -> None:
        self.verb, self.noun, self.values = verb, noun, values
        self._by_tag = dict(values)

    def __contains__(self, tag: str) -> bool:
        return tag in self._by_tag

    def need(self, tag: str) -> str:
        """The value of a tag that must be there and say something."""
        value = self._by_tag.get(tag)
        if not value:
            raise PolicyError(f"{self.verb} {self.noun} needs {tag}=; accepted: {self.accepted}")
        return value

    def read(self, tag: str, reader: Callable[[str], _T]) -> _T | None:
        """The value of a tag as `reader` takes it, None without one; errors begin with the tag."""
        return read_value(tag, self._by_tag[tag], reader) if tag in self._by_tag else None

    def fields(self, **readers: tuple[str, Callable[[str], Any]]) -> dict[str, Any]:
        """The fields whose (tag, reader) is on the line."""
        return {field: self.read(tag, reader) for field, (tag, reader) in readers.items() if tag in self._by_tag}

    @property
    def accepted(self) -> str:
        return _accepted((self.verb, self.noun))


def read_value(tag: str, text: str, reader: Callable[[str], _T]) -> _T:
    try:
        return reader(text)
    except PolicyError as error:
        raise PolicyError(f"{tag}: {error}") from None


def flag(text: str) -> bool:
    return choose(text, ("yes", "no")) == "yes"


def choose(text: str, choices: Iterable[str]) -> str:
    """The one of the choices that a word is or begins."""
    word, choices = text.casefold(), tuple(choices)
    found = [one for one in choices if one == word] or [one for one in choices if word and one.startswith(word)]
    if len(found) != 1:
        several = f"may be {' or '.join(found)}" if found else "is not known here"
        raise PolicyError(f"{text!r} {several}; accepted: {', '.join(choices)}")
    return found[0]


def quote(text: str, what: str) -> str:
    """A text in quotes; `what` says whose it is where there are no quotes for it. The text is not repeated."""
    if _UNQUOTABLE.search(text):
        raise PolicyError(f"{what} has a line break or \\' (netsh's double quote) in it; accepted: text without them")
    return '"' + text.replace('"', "\\'") + '"'


def read_line(line: str) -> Command | None:
    """The command of a line; None of one that has none (a comment, a context). ("exit", "") ends a script."""
    words = _words(line)
    if not words or line.lstrip(" \t").startswith("#"):
        return None
    if words[0].bare and words[0].text.casefold() in ("netsh", "netsh.exe"):
        words = _without_context_option(words[1:])
    head = words[0].text.casefold() if words and words[0].bare else ""
    if head in _SESSION:
        if head == "pushd":
            _skip_context(words[1:], whole=True)
        return Command("exit", "", ()) if head in _ENDS else None
    words = _skip_context(words)
    if not words:
        return None
    verb = _command_word(words[0], _VERBS)
    if verb in ("show", "exportpolicy", "importpolicy"):
        return Command(verb, "", ())
    nouns = tuple(noun for first, noun in TAGS if first == verb)
    if len(words) < 2:
        raise PolicyError(f"{verb} what; accepted: {', '.join(nouns)}")
    noun = _command_word(words[1], nouns)
    return Command(verb, noun, tuple(_values((verb, noun), words[2:])))


def _words(line: str) -> list[_Word]:
    words: list[_Word] = []
    at = _blanks(line, 0)
    while at < len(line):
        tag = _TAG.match(line, at)
        at = tag.end() if tag else at
        value = _VALUE.match(line, at)
        if value is None or line[value.end() : value.end() + 1] == '"':
            if line[value.end() if value else at :].startswith('"'):
                raise PolicyError('a quote is not closed; accepted: tag="text", \\\' for a double quote in it')
            raise PolicyError(f'no value for {tag[1] if tag else "a tag"}=; accepted: tag=value, tag="text"')
        if tag and tag[2] and _TAG.match(value[0]):
            raise PolicyError(f'no value for {tag[1]}=; accepted: tag=value, tag="text"')
        text = _QUOTED.sub(lambda found: found[1].replace("\\'", '"'), value[0])
        words.append(_Word(text, tag and tag[1].casefold(), not tag and '"' not in value[0]))
        at = _blanks(line, value.end())
    return words


def _blanks(line: str, at: int) -> int:
    while at < len(line) and line[at] in " \t":
        at += 1
    return at


def _without_context_option(words: list[_Word]) -> list[_Word]:
    if words and words[0].bare and words[0].text.startswith("-"):
        if words[0].text.casefold() != "-c" or len(words) < 2:
            raise PolicyError('an option of netsh that is not for a script; accepted: -c "ipsec static"')
        return [*(_Word(text, None, True) for text in words[1].text.split()), *words[2:]]
    return words


def _skip_context(words: list[_Word], *, whole: bool = False) -> list[_Word]:
    """The words after `ipsec static`; `whole`: nothing else may be there."""
    for name, least in (("ipsec", 3), ("static", 2)):
        if words and words[0].bare and len(words[0].text) >= least and name.startswith(words[0].text.casefold()):
            words = words[1:]
    if (words and whole) or (words and words[0].bare and words[0].text.casefold() == "dynamic"):
        raise PolicyError("another context of netsh; accepted: ipsec static")
    return words


def _command_word(word: _Word, choices: tuple[str, ...]) -> str:
    """What is not a command may be the rest of a broken line, a key even: it is not repeated."""
    try:
        if word.bare:
            return choose(word.text, choices)
    except PolicyError:
        pass
    raise PolicyError(f"not a command of netsh ipsec static; accepted: {', '.join(choices)}") from None


def _values(command: tuple[str, str], words: list[_Word]) -> Iterable[tuple[str, str]]:
    places = [tag for tag in TAGS[command] if tag != "all"]
    seen: set[str] = set()
    tagged = False
    for word in words:
        if word.bare and "all" in TAGS[command] and word.text.casefold() == "all":
            tag = "all"
        elif word.tag is None:
            tag = next((one for one in places if one not in seen), "")
            # Behind a tag it is the rest of a text without quotes, a key even: it is not repeated.
            if tagged or not tag:
                raise PolicyError(f"a value without a tag after the others; accepted: {_accepted(command)}")
        else:
            tagged, tag = True, _tag(command, word.tag, "psk" in seen)
        if tag in seen and tag not in AUTHENTICATION_TAGS:
            raise PolicyError(f"{tag}= is given twice; accepted: each tag once but {', '.join(AUTHENTICATION_TAGS)}")
        seen.add(tag)
        yield tag, word.text


def _tag(command: tuple[str, str], word: str, hidden: bool) -> str:
    own = OWN_TAGS.get(command, ())
    known = [tag for tag in TAGS[command] if tag != "all"]
    if word in own:
        return word
    found = [tag for tag in known if tag == word] or [tag for tag in known if tag.startswith(word)]
    if len(found) == 1:
        return found[0]
    shown = "a word behind psk=" if hidden else f"{word!r}"
    several = f"may be {' or '.join(found)}" if found else f"is not a tag of {' '.join(command)}"
    raise PolicyError(f"{shown} {several}; accepted: {_accepted(command)}")


def _accepted(command: tuple[str, str]) -> str:
    tags = (*TAGS[command], *OWN_TAGS.get(command, ()))
    return ", ".join(tag if tag == "all" else f"{tag}=" for tag in tags) or "nothing more"
