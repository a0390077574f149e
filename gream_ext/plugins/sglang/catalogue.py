"""The catalogue of a server: its trie, and what a request of ours may ask of it."""

from dataclasses import dataclass
from pathlib import Path

from gream_ext.decoding.restriction import Restrictions, SubCatalogue
from gream_ext.decoding.trie import ItemTrie
from gream_ext.errors import GreamError
from gream_ext.inference.engines.sglang_request import check_catalogue, fingerprint


@dataclass(frozen=True)
class Catalogue:
    """A trie and its `fingerprint`."""

    trie: ItemTrie
    name: str

    @classmethod
    def load(cls, path: Path) -> "Catalogue":
        trie = ItemTrie.load(path)
        return cls(trie, fingerprint(trie))

    def admit(self, asked: str, part: SubCatalogue | None) -> None:
        """`GreamError` for another catalogue, a row that is no item, or a part that holds nothing."""
        check_catalogue(asked, self.name)
        if not Restrictions.of(self.trie, [part]).sizes.all():
            raise GreamError("the sub-catalogue of this request holds no item: allow at least one")


def sentence(error: Exception) -> str:
    """What SGLang answers for a request that we refuse."""
    return f"gream_ext: {error if isinstance(error, GreamError) else repr(error)}"
