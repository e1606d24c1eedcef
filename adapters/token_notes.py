"""What the files beside a tokenizer say of it: its tokens in front of and behind a text, and those that are added to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from adapters.checkpoints.files import read_json
from adapters.errors import StrataError

NAMES = ("bos_token", "eos_token")
Find = Callable[[str], int | None]  # id of a token in the vocabulary


@dataclass(frozen=True, slots=True)
class TokenNotes:
    adds_bos: bool | None  # None: nothing is said
    of_llama: bool  # of Llama's tokenizer class
    tokens: dict[str, str | None]  # by name in NAMES; None: that there is none
    model: dict[str, int]  # ids by name, of config.json
    added: dict[str, int]  # ids of added tokens
    special: frozenset[str]  # among them

    @classmethod
    def beside(cls, path: Path) -> TokenNotes:
        """Of tokenizer_config.json, special_tokens_map.json, added_tokens.json and config.json. Raises StrataError on other contents."""
        config, named, added, model = (
            read_json(file) if (file := path.with_name(name)).is_file() else {}
            for name in ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "config.json")
        )
        try:
            return cls._of(named | config, added, model)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise StrataError(f"tokenizer_config.json or added_tokens.json has a token of another form ({error!r})") from error

    @classmethod
    def _of(cls, config: dict, added: dict, model: dict) -> TokenNotes:
        decoder = {int(i): token for i, token in (config.get("added_tokens_decoder") or {}).items()}
        special = {_text(token) for name, token in config.items() if name.endswith("_token")}
        special |= {_text(token) for token in config.get("additional_special_tokens") or []}
        special |= {_text(token) for token in decoder.values() if token.get("special")}
        ids = {name: model.get(f"{name}_id") for name in NAMES}
        firsts = {name: i[0] if isinstance(i, list) and i else i for name, i in ids.items()}
        adds = config.get("add_bos_token")
        return cls(
            adds_bos=adds if isinstance(adds, bool) else None,
            of_llama=str(config.get("tokenizer_class")).startswith("Llama"),
            tokens={name: _named(config[name]) for name in NAMES if name in config},
            model={name: i for name, i in firsts.items() if isinstance(i, int) and i >= 0},
            added={str(token): int(i) for token, i in added.items()} | {str(_text(token)): i for i, token in decoder.items()},
            special=frozenset(token for token in special if token),
        )

    def id_of(self, name: str, find: Find) -> int | None:
        """Of the token that is named so, None when none is or it is nowhere."""
        token = self.tokens.get(name)
        found = find(token) if token else None
        return self.added.get(token) if found is None and token else found

    def bos(self, find: Find, default: int | None) -> int | None:
        """Of the token in front of a text, `default` when nothing is said. Raises StrataError when the one that is named is nowhere."""
        found = self.id_of("bos_token", find) if "bos_token" in self.tokens else default
        if found is None and self.tokens.get("bos_token"):
            raise StrataError(f"tokenizer_config.json names the bos_token {self.tokens['bos_token']!r}, which is not in its vocabulary")
        return found

    def prefix(self, find: Find, otherwise: int | None) -> int | None:
        """BOS of tokenizer_config.json, else of config.json; else the end of a text of either."""
        found = (self.id_of(name, find) if self.tokens.get(name) else self.model.get(name) for name in NAMES)
        return next((i for i in found if i is not None), otherwise)

    def eos(self, find: Find) -> int | None:
        """The token that ends a text: of tokenizer_config.json, else of config.json."""
        return self.id_of("eos_token", find) if self.tokens.get("eos_token") else self.model.get("eos_token")

    def unread(self, knows: Callable[[str], bool]) -> tuple[str, ...]:
        """Added tokens that are words, and that the vocabulary does not know."""
        return tuple(token for token in self.added if token and token not in self.special and not knows(token))


def _named(token: object) -> str | None:
    """Raises ValueError on what is no token: null alone says that there is none."""
    found = _text(token)
    if token is not None and not isinstance(found, str):
        raise ValueError(f"{token!r:.60} is not a token")
    return found


def _text(token: object) -> str | None:
    return token["content"] if isinstance(token, dict) else token if isinstance(token, str) else None
