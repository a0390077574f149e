"""What our engine and our plug-in in SGLang's server say to each other, within SGLang's own fields.

Direct mode travels in ``sampling_params["custom_params"]``, reasoning mode in ``sampling_params["structural_tag"]``.
Both name the catalogue by its `fingerprint`, so that an engine never talks to a server with another one. Neither side
imports SGLang here.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast, get_args

from gream_ext.decoding.faithful import Rewriting
from gream_ext.decoding.ranking import Normalisation
from gream_ext.decoding.restriction import SubCatalogue
from gream_ext.decoding.trie import ItemTrie
from gream_ext.errors import GreamError

TRIE_VARIABLE = "GREAM_SGLANG_TRIE"
"""Environment variable that names the trie file of a server; without it the plug-in does nothing."""

CATALOGUE, NORMALISATION, ONLY, WITHOUT = "gream_catalogue", "gream_normalisation", "gream_only", "gream_without"
ANSWER_FORMAT = "gream_answer"
"""``format.type`` of our structural tag; a server without the plug-in refuses it."""

IMPOSSIBLE = -1e30
"""The score of a beam that leads to no item: finite, for JSON has no infinity."""

_SAYS_CATALOGUE = "gream_ext serves the catalogue "


def fingerprint(trie: ItemTrie) -> str:
    """Names a catalogue: equal tries, token ids and rows included, have equal ones."""
    digest = hashlib.sha256(str(trie.levels).encode())
    for array in (trie.tokens, trie.children, trie.rows):
        digest.update(array.cpu().numpy().astype("<i8").data)
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class BeamRequest:
    """A request of direct mode as the server reads it."""

    catalogue: str
    normalisation: Normalisation
    part: SubCatalogue | None

    def fields(self) -> dict[str, Any]:
        """For ``custom_params``."""
        return {CATALOGUE: self.catalogue, NORMALISATION: self.normalisation, **part_fields(self.part)}

    def request(self, prompt: Sequence[int], beams: int, levels: int) -> dict[str, Any]:
        """A whole request to ``/generate``: every beam writes as many tokens as the longest identifier has."""
        asked = {"beam_width": beams, "n": beams, "max_new_tokens": levels, "ignore_eos": True}
        return {"input_ids": list(map(int, prompt)), "sampling_params": {**asked, "custom_params": self.fields()}}

    @classmethod
    def read(cls, fields: Mapping[str, Any]) -> "BeamRequest | None":
        """What `fields` wrote, None where there is nothing of ours; `GreamError` for anything misshapen."""
        if CATALOGUE not in fields:
            return None
        normalisation = fields.get(NORMALISATION)
        if normalisation not in get_args(Normalisation):
            raise GreamError(f"{NORMALISATION} is {normalisation!r}, not one of {', '.join(get_args(Normalisation))}")
        return cls(str(fields[CATALOGUE]), cast(Normalisation, normalisation), read_part(fields))


@dataclass(frozen=True)
class AnswerTag:
    """The structural tag of reasoning mode: free text, and after ``begin`` a real item and ``end``, in token ids."""

    catalogue: str
    begin: int
    end: int
    written: tuple[int, ...] | None
    """Where the prompt ends within an answer: its tokens since ``begin``."""
    part: SubCatalogue | None
    rewriting: Rewriting | None = None
    """Where a response writes the history again; None: it may write there what it likes."""
    history: tuple[int, ...] = ()
    """Rows of the item index, oldest first: what it may write there."""

    def text(self) -> str:
        """For ``structural_tag``."""
        about = {"catalogue": self.catalogue, "begin": self.begin, "end": self.end, **part_fields(self.part)}
        if self.written is not None:
            about["written"] = list(self.written)
        if self.rewriting is not None:
            about["rewriting"], about["history"] = asdict(self.rewriting), list(self.history)
        return json.dumps({"type": "structural_tag", "format": {"type": ANSWER_FORMAT, **about}})

    @classmethod
    def read(cls, text: str) -> "AnswerTag | None":
        """What `text` wrote, None for any other tag; `GreamError` for one of ours that is misshapen."""
        if ANSWER_FORMAT not in text:
            return None
        try:
            about = json.loads(text)["format"]
            if about["type"] != ANSWER_FORMAT:
                return None
            written = about.get("written")
            opened = None if written is None else tuple(int(token) for token in written)
            place = about.get("rewriting")
            rewriting = None if place is None else Rewriting(**{name: _integers(place[name]) for name in place})
            history = tuple(map(int, about.get("history", ())))
            answer = int(about["begin"]), int(about["end"]), opened
            return cls(str(about["catalogue"]), *answer, read_part(about), rewriting, history)
        except (KeyError, TypeError, ValueError) as error:
            raise GreamError(f"the structural tag {ANSWER_FORMAT} is misshapen ({error!r})") from None


def _integers(value: Any) -> Any:
    return tuple(map(int, value)) if isinstance(value, list) else int(value)


def part_fields(part: SubCatalogue | None) -> dict[str, list[int]]:
    """A sub-catalogue as fields of JSON."""
    if part is None:
        return {}
    return {WITHOUT if part.excludes else ONLY: part.rows.tolist()}


def read_part(fields: Mapping[str, Any]) -> SubCatalogue | None:
    """What `part_fields` wrote; `GreamError` unless it is a list of integers."""
    for name, make in ((ONLY, SubCatalogue.only), (WITHOUT, SubCatalogue.without)):
        if name in fields:
            rows = fields[name]
            if not isinstance(rows, Sequence) or not all(type(row) is int for row in rows):
                raise GreamError(f"{name} must be a list of rows of the item index")
            return make(rows)
    return None


def check_catalogue(asked: str, served: str) -> None:
    """`GreamError` when a request is meant for another catalogue; its text is what `served_catalogue` reads."""
    if asked != served:
        raise GreamError(f"{_SAYS_CATALOGUE}{served}, not {asked}")


def served_catalogue(refusal: str) -> str | None:
    """The catalogue that a server named when it refused a request; None when it is not our plug-in that speaks."""
    _, ours, rest = refusal.partition(_SAYS_CATALOGUE)
    return rest.split(",")[0] if ours else None
