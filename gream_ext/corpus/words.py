"""What people do with the items of a domain: they purchase products, watch films, read books.

Templates name these words by ``$noun``, ``$verb`` and so on; the ``{slots}`` of a row are filled in later.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import yaml

from gream_ext.errors import GreamError

LONGEST = 40
"""Characters of one word or phrase."""


@dataclass(frozen=True)
class Words:
    """The words of one domain; the defaults are the paper's."""

    noun: str = "purchase"
    """As in "the user's purchase history"."""
    verb: str = "purchase"
    """As in "what they would likely purchase next"."""
    buy: str = "buy"
    """As in "the item the user may buy"."""
    past: str = "bought"
    """As in "what a user bought"."""
    thing: str = "product"
    """As in "the recommended product"."""

    @classmethod
    def of(cls, given: Any, where: str) -> "Words":
        """Words from a mapping that somebody wrote; `GreamError` names ``where`` and the word."""
        names = [field.name for field in fields(cls)]
        if not isinstance(given, Mapping) or set(given) != set(names):
            raise GreamError(f"{where}: the words of a domain are a mapping of {', '.join(names)}")
        for name, value in given.items():
            # A brace would be a slot, an angle bracket a marker.
            if not isinstance(value, str) or not value.strip() or len(value) > LONGEST or set(value) & set("{}<>$\n"):
                raise GreamError(f"{where}: {name} is {value!r}: give a word or phrase without any of {{}}<>$")
        return cls(**given)

    def put_into(self, text: str) -> str:
        """A template's text with these words in it.

        >>> Words().put_into("$Noun history: {history}.")
        'Purchase history: {history}.'
        """
        return Template(text).substitute(asdict(self), Noun=self.noun[0].upper() + self.noun[1:])


PRODUCT = Words()
DOMAIN_HELP = "what people do with the items: product, film, book, article, music, game, place, item, or a YAML file"


def words_of(domain: str) -> Words:
    """The words of a shipped domain, or of a YAML file with the same keys."""
    if domain in shipped_domains():
        return shipped_domains()[domain]
    path = Path(domain).expanduser()
    if not path.is_file():
        known = ", ".join(shipped_domains())
        raise GreamError(f"domain {domain!r} is neither one of {known} nor a YAML file with such words")
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise GreamError(f"domain {path} cannot be read: {str(error).splitlines()[0]}") from None
    return Words.of(given, f"domain {path}")


def domain_file(domain: str | None) -> list[Path]:
    """The file of the user's own words, where ``domain`` is one."""
    return [] if domain is None or domain in shipped_domains() else [Path(domain).expanduser()]


@cache
def shipped_domains() -> dict[str, Words]:
    """The domains of ``domains.yaml`` by name."""
    given = yaml.safe_load(files("gream_ext.corpus").joinpath("domains.yaml").read_text(encoding="utf-8"))
    return {name: Words.of(words, name) for name, words in given.items()}
