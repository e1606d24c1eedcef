"""A family of decoders as a table: where its weights lie, what config.json calls things, and what its blocks compute."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor
from transformers import PreTrainedConfig
from transformers.activations import ACT2FN

from adapters.attention import Attention
from adapters.checkpoints.layout import Layout, Slot, Store
from adapters.decoder import DecoderBlock, DecoderModel, Ends
from adapters.errors import StrataError, unknown
from adapters.families.decoder_config import Sizes, configuration, sizes
from adapters.families.mamba.hybrid import StateSpace, StateSpaceBlock
from adapters.norms import Norm, rms_norm
from adapters.roles import n_numbers, shapes_by_role, spec_of
from adapters.rotary import ONE, kinds_of
from adapters.specs import ModelSpec

BY_GROUP = " by group"
Config = Any  # of transformers, of the table's model_type
Shapes = dict[str, tuple[int, ...]]  # by role


class Experts(NamedTuple):
    """Of one block, in place of an MLP."""

    number: int
    per_token: int
    width: int  # inner
    shared: int = 0  # inner width of an MLP beside them; 0: there is none


class Layer(NamedTuple):
    """What one block does with positions, and its experts or its state space where it has any."""

    window: int | None = None  # as in Attention
    rotation: str | None = ONE  # a kind of `rotary.kinds_of`; None: none
    scale: float | None = None  # as in Attention
    experts: Experts | None = None
    state_space: StateSpace | None = None  # in the place of attention


def layers_of(cfg: Config) -> list[Layer]:
    """By `layer_types` of config.json where it has them: windows of sliding layers, rotations where each type has its own."""
    kinds = kinds_of(cfg)
    types = getattr(cfg, "layer_types", None) or ["full_attention"] * cfg.num_hidden_layers
    windows = {"sliding_attention": getattr(cfg, "sliding_window", None)}
    return [Layer(windows.get(kind), ONE if ONE in kinds else kind) for kind in types]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoder:
    """What the models of one model_type are. Functions take the checked configuration."""

    layout: Layout
    names: Mapping[str, str] = field(default_factory=dict)  # keys of Llama's config.json -> what this one calls them
    reads: tuple[str, ...] = ()  # keys of config.json that are computed here, and refused elsewhere (`decoder_config.NEUTRAL`)
    fill: Callable[[dict], dict] = lambda config: {}  # keys that config.json leaves to a rule
    norm: Norm = rms_norm
    vectors: Callable[[Config], Mapping[str, int | tuple[int, ...]]] = lambda cfg: {}  # roles of norms beside those on the stream -> size
    norms: tuple[str, ...] = ("mixer_norm", "ffn_norm")  # roles of norms on the stream
    bare: bool = False  # norms on the stream have no weights
    norm_bias: bool = False
    unembed_bias: bool = False
    gated: bool = True
    biased: Callable[[Config], Iterable[str]] = lambda cfg: ()  # roles of matrices with a bias
    parallel: Callable[[Config], bool] = lambda cfg: False
    layers: Callable[[Config], Sequence[Layer]] = layers_of
    slopes: Callable[[Config], Tensor | None] = lambda cfg: None  # of ALiBi
    coarse_slopes: bool = False  # as in Attention
    cap: Callable[[Config], float | None] = lambda cfg: None  # of attention scores
    neighbours: bool = False  # as in DecoderBlock
    clip: Callable[[Config], float | None] = lambda cfg: None  # ... too
    residual: Callable[[Config], float | None] = lambda cfg: None  # as in DecoderBlock
    renormalised: Callable[[Config], bool] = lambda cfg: False  # ... too
    learned_positions: int | None = None  # rows of their table in front of the first; None: positions are not learned
    embed_scale: Callable[[Config], float | None] = lambda cfg: None
    logit_scale: Callable[[Config], float | None] = lambda cfg: None
    logit_cap: Callable[[Config], float | None] = lambda cfg: None
    limit: Callable[[Config], int | None] = lambda cfg: None  # no text may be longer

    def model_shapes(self, cfg: Config, n: Sizes) -> Shapes:
        embed, vector = (n.vocab, n.d), (n.d,)
        present: list[tuple[bool, str, tuple[int, ...]]] = [
            (True, "embed", embed),
            (not self.bare, "norm", vector),
            (not cfg.tie_word_embeddings, "unembed", embed),
            (self.norm_bias, "norm_bias", vector),
            (self.unembed_bias, "unembed_bias", (n.vocab,)),
            (self.learned_positions is not None, "positions", ((self.learned_positions or 0) + n.max_len, n.d)),
        ]
        return {role: shape for there, role, shape in present if there}

    def block_shapes(self, cfg: Config, n: Sizes, layer: Layer) -> Shapes:
        """Shape of every role that the configuration asks for."""
        q, kv = n.heads * n.head_dim, n.kv_heads * n.head_dim
        attention: Shapes = {"q": (q, n.d), "k": (kv, n.d), "v": (kv, n.d), "o": (n.d, q)}
        matrices = layer.state_space.shapes if layer.state_space else attention
        matrices |= _expert_shapes(n.d, layer.experts) if layer.experts else self._mlp(n.d, n.d_ffn)
        norms: Shapes = {role + end: (n.d,) for role in self.norms for end in ("", "_bias")[: 1 + self.norm_bias] if not self.bare}
        biases = {f"{role}_bias": matrices[role][:1] for role in self.biased(cfg)}
        return matrices | biases | norms | {role: (size,) if isinstance(size, int) else size for role, size in self.vectors(cfg).items()}

    def _mlp(self, d: int, width: int) -> Shapes:
        matrices: Shapes = {"up": (width, d), "down": (d, width)}
        return {"gate": (width, d)} | matrices if self.gated else matrices


def _expert_shapes(d: int, experts: Experts) -> Shapes:
    number, width, shared = experts.number, experts.width, experts.shared
    up, down = (number, width, d), (number, d, width)
    stacks: Shapes = {"expert_gate": up, "expert_up": up, "expert_down": down}
    beside: Shapes = {"shared_gate": (shared, d), "shared_up": (shared, d), "shared_down": (d, shared), "shared_scale": (1, d)}
    return stacks | {"router": (number, d)} | (beside if shared else {})


class DecoderFamily(NamedTuple):
    """Model_types under the name that they have in the registry. What differs in its parts has a function from config.json to a table."""

    name: str
    tables: Mapping[str, Decoder | Callable[[dict], Decoder]]

    def build(self, config: dict, store: Store, name: str) -> DecoderModel:
        """A model from the contents of config.json and its checkpoint. Raises StrataError by name of what differs."""
        table, config = self._table(config, name)
        return assemble(
            table, configuration(config, name, len(store.shapes), table.names, table.reads), store, (self.name, config["model_type"], name)
        )

    def layout(self, config: dict, store: Store) -> Layout:
        """That of a checkpoint."""
        table, config = self._table(config, store.path.name)
        cfg = configuration(config, store.path.name, len(store.shapes), table.names, table.reads)
        return table.layout.fitting(store, sizes(cfg, table.names).kv_heads)

    def _table(self, config: dict, name: str) -> tuple[Decoder, dict]:
        model_type = config.get("model_type", "")
        if model_type not in self.tables:
            raise unknown(f"model_type of {name}", str(model_type), self.tables)
        found = self.tables[model_type]
        table = found if isinstance(found, Decoder) else found(config)
        return table, config | table.fill(config)


def assemble(table: Decoder, cfg: PreTrainedConfig, store: Store, names: tuple[str, str, str]) -> DecoderModel:
    """A model from a checkpoint; `names` are its family, its variant and its own."""
    n = sizes(cfg, table.names)
    layers, layout, shapes = table.layers(cfg), table.layout.fitting(store, n.kv_heads), table.model_shapes(cfg, n)
    tables = [table.block_shapes(cfg, n, layer) for layer in layers]
    head, embed = layout.model["unembed"].key, layout.model["embed"].key
    if head in store.shapes:
        shapes["unembed"] = shapes["embed"]
    elif "unembed" in shapes and embed in store.shapes:
        tied = f"set tie_word_embeddings to true in config.json if {embed} is its head too, else download it again"
        raise StrataError(f"{store.path} lacks the weight {head}, the head: {tied}")
    weights, blocks = layout.read(store, shapes, tables)
    # Some writers leave a copy of tied embeddings behind. A head that differs is used, as Hugging Face does.
    if cfg.tie_word_embeddings and "unembed" in weights and store.read(head).equal(store.read(embed)):  # on any device
        del weights["unembed"]
    limit = table.limit(cfg) if table.learned_positions is None else n.max_len
    slopes, cap = table.slopes(cfg), table.cap(cfg)
    slopes = None if slopes is None else slopes.to(store.device)
    per_token, act = [layer.experts.per_token if layer.experts else 0 for layer in layers], ACT2FN[n.act]
    heads = [None if layer.state_space else n.heads for layer in layers]
    specs = [
        spec_of(own, of_block, parallel=table.parallel(cfg), experts_per_token=k)
        for own, of_block, k in zip(tables, heads, per_token, strict=True)
    ]
    built = [
        _kind_of_block(layer)(
            spec,
            w,
            table.norm,
            n.eps,
            act,
            Attention(layer.scale, layer.window, cap, slopes, table.coarse_slopes),
            layer.rotation,
            neighbours=table.neighbours,
            bare=table.norms if table.bare else (),
            clip=table.clip(cfg),
            residual=table.residual(cfg),
            renormalised=table.renormalised(cfg),
        )
        for spec, w, layer in zip(specs, blocks, layers, strict=True)
    ]
    ends = Ends(
        norm=table.norm,
        eps=n.eps,
        embed_scale=table.embed_scale(cfg),
        logit_scale=table.logit_scale(cfg),
        logit_cap=table.logit_cap(cfg),
        first_position=table.learned_positions or 0,
        limit=limit,
    )
    model_spec = ModelSpec(
        family=names[0],
        variant=names[1],
        name=names[2],
        d_model=n.d,
        vocab_size=n.vocab,
        max_len=min(n.max_len, limit or n.max_len),
        blocks=tuple(specs),
        n_params=n_numbers(shapes_by_role(weights)) + sum(spec.n_params for spec in specs),
        source_hash=store.hash,
    )
    return DecoderModel(model_spec, cfg, ends, layout, weights, built)


def _kind_of_block(layer: Layer) -> Callable[..., DecoderBlock]:
    return partial(StateSpaceBlock, how=layer.state_space.how) if layer.state_space else DecoderBlock


def modules(keys: Mapping[str, str], *, transposed: bool = False) -> dict[str, Slot]:
    """Slots of modules by role, and of their biases. A role of several, as in "q k v", is one module that is fused in that order,
    and "q k v by group" one where that order is repeated for each key-value head."""
    slots: dict[str, Slot] = {}
    for roles, key in keys.items():
        fused, by_group = roles.removesuffix(BY_GROUP).split(), roles.endswith(BY_GROUP)
        for end, tensor in (("", "weight"), ("_bias", "bias")):
            together = tuple(role + end for role in fused) if len(fused) > 1 else ()
            flipped = transposed and not end
            slots |= {role + end: Slot(f"{key}.{tensor}", together, grouped=by_group, transposed=flipped) for role in fused}
    return slots
