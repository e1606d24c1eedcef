"""A family of decoders against transformers' own modules, in five lines: what both compute, with everything in and with parts out.

    @parametrize_against_hf("gpt_neox", {"parallel": {}, "sequential": {"use_parallel_residual": False}})
    def test_gpt_neox(check):
        check()

Where the modules are is read from the layout's keys; what is taken out there, and how, knows nothing of the project's blocks.
"""

from __future__ import annotations

import copy
import functools
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from adapters import Ablation, BlockModel, ModelSpec, StrataError, load
from adapters.checkpoints.configs import BY_INDEX
from adapters.checkpoints.export import Source, remove_blocks
from adapters.checkpoints.files import open_store
from adapters.checkpoints.stock import by_transformers
from adapters.contract import CHECKS, Recorder, assert_close
from adapters.contract.heads import check_kept_heads
from adapters.contract.spec import Factors
from adapters.families.rwkv.tokenizers import ByteTokenizer
from adapters.registry import FAMILIES
from analysis.checkpoints.cuts import cut
from analysis.data.batches import Batch
from analysis.engine.ablations import single_ablations
from analysis.engine.decoding import Prompt, decode
from analysis.engine.mean_ablation import part_means, with_means
from analysis.engine.plan import plan
from analysis.engine.sweep import sweep
from analysis.metrics.taylor import taylor
from analysis.removal.savings import saved
from tests.reference.count import ffn_runs, mixer_runs
from tests.reference.experts import chosen_experts, ffn_of, without_experts
from tests.reference.hf import tiny
from tests.reference.naive import _silence, _zero_columns

LENGTHS = torch.tensor([37, 11, 20])
GIVE_PAIRS = ("falcon", "gptj")  # model_types of which a block gives the stream and weights of attention
MIXED = (
    Ablation(blocks={1}, heads={(0, 1), (2, 0)}),
    Ablation(mixers={0}, ffns={1}, heads={(2, 1), (2, 3)}),
    Ablation(ffns={0, 2}, heads={(1, h) for h in range(4)}),
)


def mixed(spec: ModelSpec) -> list[Ablation]:
    """Of MIXED what a model has, where it is anything."""
    ffns = all(block.has_ffn for block in spec.blocks)
    left = [Ablation(a.blocks, a.mixers, a.ffns if ffns else (), heads_of(spec, a.heads), a.edit).canonical(spec) for a in MIXED]
    return [ablation for ablation in left if ablation]


def heads_of(spec: ModelSpec, heads: Iterable[tuple[int, int]]) -> set[tuple[int, int]]:
    """Those that are in blocks with heads."""
    return {(i, head) for i, head in heads if spec.blocks[i].n_heads}


class Pair:
    """A tiny random model as the project loads it, and transformers' own, whose attention is written out: other ones know no caps."""

    def __init__(self, model_type: str, config: Mapping[str, Any]) -> None:
        self.reference = tiny(model_type, **config)
        if self.reference._supports_attention_backend or self.reference._supports_sdpa:
            self.reference.set_attn_implementation("eager")
        if hasattr(self.reference.config, "num_experts_per_tok"):
            self.reference.set_experts_implementation("eager")
        self.folder = tempfile.TemporaryDirectory()
        self.reference.save_pretrained(self.folder.name)
        self.model = load(self.folder.name, dtype="float32", device="cpu")
        self.ids = torch.randint(self.model.spec.vocab_size, (3, 37), generator=torch.Generator().manual_seed(5))

    def key(self, role: str, i: int) -> str:
        assert self.model.layout is not None
        role = "out" if role == "o" and "o" not in self.model.blocks[i].weights else role  # of a mixer that is not attention
        return self.model.layout.block[role].key.format(i=i).removesuffix(".weight")

    def layer(self, reference: PreTrainedModel, i: int) -> nn.Module:
        """The block that holds the output projection of attention."""
        key = self.key("o", i)
        return reference.get_submodule(key[: key.index(f".{i}.") + len(f".{i}")])

    @torch.no_grad()
    def logits(self, ablation: Ablation, ids: Tensor | None = None) -> Tensor:
        """Of transformers' modules with parts taken out: projections that give nothing, blocks that pass on what they get."""
        reference, pairs = copy.deepcopy(self.reference), self.model.spec.variant in GIVE_PAIRS
        for i, spec in enumerate(self.model.spec.blocks):
            o = reference.get_submodule(self.key("o", i))
            if heads := [head for block, head in ablation.heads if block == i]:
                o.register_forward_pre_hook(_zero_columns(heads, spec.head_dim))
            if i in ablation.mixers:
                _silence(o)
            out = [expert for block, expert in ablation.experts if block == i]
            if i in ablation.ffns and spec.n_experts:
                ffn_of(self.layer(reference, i)).register_forward_hook(lambda _, args, given: torch.zeros_like(given))
            elif i in ablation.ffns:
                _silence(reference.get_submodule(self.key("down", i)))
            elif out:
                without_experts(ffn_of(self.layer(reference, i)), out)
            if i in ablation.blocks:
                self.layer(reference, i).forward = lambda hidden_states, *args, **kwargs: (hidden_states, None) if pairs else hidden_states
        return reference(self.ids if ids is None else ids, use_cache=False).logits


def mixed_experts(spec: ModelSpec) -> tuple[Ablation, ...]:
    """Several experts out at once, alone and beside other parts; the first so many that fewer are left than a token is sent to."""
    if not spec.has_experts:
        return ()
    i = max(i for i, block in enumerate(spec.blocks) if block.n_experts)
    n = spec.blocks[i].n_experts
    alone = [Ablation(experts={(i, e) for e in out}) for out in (range(n - 1), (0, 2), (0, 1, 2))]
    return (
        *alone,
        alone[1] | Ablation(heads={(i, 1)} if spec.blocks[i].n_heads else (), ffns={0}),
        alone[1] | Ablation(mixers={i}, experts={(i, 1)}),
    )


def check_forward(p: Pair) -> None:
    """Logits, the stream in front of each block and behind the last, every z, and the numbers of parameters."""
    streams: list[Tensor] = []
    zs: list[Tensor] = []
    n = len(p.model.blocks)
    handles = [
        p.layer(p.reference, n - 1).register_forward_hook(lambda _, args, out: streams.append(out[0] if isinstance(out, tuple) else out))
    ]
    for i in reversed(range(n)):  # the pre-hooks run in the order of the blocks all the same
        handles.append(p.layer(p.reference, i).register_forward_pre_hook(_first(streams), with_kwargs=True))
        handles.append(p.reference.get_submodule(p.key("o", i)).register_forward_pre_hook(_first(zs), with_kwargs=True))
    try:
        with torch.no_grad():
            expected = p.reference(p.ids, use_cache=False).logits
    finally:
        for handle in handles:
            handle.remove()
    parts: list[Any] = []
    with torch.inference_mode():
        assert_close(p.model.run(p.ids, tap=lambda _, found: parts.append(found)), expected)
    assert len(streams) == n + 1
    for i, found in enumerate(parts):
        assert_close(found.x_in, streams[i])
        assert_close(found.x_out, streams[i + 1])
        if found.z is not None:
            assert_close(found.z.flatten(-2), zs[i])
    assert p.model.spec.n_params == p.reference.num_parameters()
    for i, spec in enumerate(p.model.spec.blocks):
        assert spec.n_params == sum(t.numel() for t in p.layer(p.reference, i).parameters())


def _first(into: list[Tensor]) -> Callable:
    return lambda _, args, kwargs: into.append((args or tuple(kwargs.values()))[0])


def check_padding(p: Pair) -> None:
    """Rows that are padded on the right, with transformers' own mask."""
    real = torch.arange(p.ids.shape[1]) < LENGTHS[:, None]
    with torch.no_grad():
        expected = p.reference(p.ids, attention_mask=real.long(), use_cache=False).logits
        assert_close(p.model.run(p.ids, lengths=LENGTHS)[real], expected[real])


def check_ablations(p: Pair) -> None:
    """Every block, mixer, ffn and head alone, and mixed sets; the sweep gives the same sums, and runs what the plan counts."""
    spec, chosen = p.model.spec, (*mixed(p.model.spec), *mixed_experts(p.model.spec))
    kinds = ["blocks", "mixers", *["ffns"] * all(block.has_ffn for block in spec.blocks), *["heads"] * spec.has_heads]
    every = plan(spec, [*single_ablations(spec, [*kinds, *["experts"] * spec.has_experts]), *chosen])
    recording = p.model.with_blocks([Recorder(block) for block in p.model.blocks])
    with torch.inference_mode():
        found = sweep(recording, every, p.ids, LENGTHS, kl=False)["nll"]
        for a, ablation in enumerate(every.ablations):
            logits = p.logits(ablation)
            if ablation in chosen or not ablation:
                assert_close(p.model.run(p.ids, ablation), logits)
            nll = -logits[:, :-1].double().log_softmax(-1).gather(-1, p.ids[:, 1:, None])[..., 0]
            for d, length in enumerate(LENGTHS.tolist()):
                error = abs(float(found[a, d] - nll[d, : length - 1].sum())) / (length - 1)
                assert error < 1e-5, f"{ablation}: the mean nll is off by {error:.1e}"
    shapes = ["parallel" if block.parallel else "sequence" if block.has_ffn else "mixer" for block in spec.blocks]
    assert sum(sum(block.mixed) for block in recording.blocks) == len(LENGTHS) * every.mixer_rows
    assert sum(sum(block.fed) for block in recording.blocks) == len(LENGTHS) * every.ffn_rows
    assert every.mixer_rows == mixer_runs(len(shapes), every.ablations, shapes)
    assert every.ffn_rows == ffn_runs(len(shapes), every.ablations, shapes)


def _require_heads(p: Pair) -> None:
    if not p.model.spec.has_heads:
        pytest.skip("the architecture has no heads")


def check_means(p: Pair) -> None:
    """Heads that leave their means behind, against columns that are overwritten at the output projections."""
    _require_heads(p)
    real = torch.arange(p.ids.shape[1]) < LENGTHS[:, None]
    batch = Batch([], p.ids, LENGTHS, (LENGTHS - 1).numpy(), LENGTHS.numpy())
    model = with_means(p.model, part_means(p.model, [batch]))
    reference, zs = copy.deepcopy(p.reference), list[Tensor]()
    handles = [reference.get_submodule(p.key("o", i)).register_forward_pre_hook(_first(zs), with_kwargs=True) for i in range(3)]
    with torch.no_grad():
        reference(p.ids, use_cache=False)
    for handle in handles:
        handle.remove()
    out = heads_of(p.model.spec, {(0, 1), (1, 0), (1, 3), (2, 2)})
    for i, head in out:
        head_dim = p.model.spec.blocks[i].head_dim or 0
        columns = slice(head * head_dim, (head + 1) * head_dim)
        mean = zs[i][real][:, columns].double().mean(0).float()
        reference.get_submodule(p.key("o", i)).register_forward_pre_hook(_overwritten(columns, mean))
    with torch.no_grad():
        assert_close(model.run(p.ids, Ablation(heads=out, edit="mean")), reference(p.ids, use_cache=False).logits)


def _overwritten(columns: slice, by: Tensor) -> Callable:
    def hook(module: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
        z = args[0].clone()
        z[..., columns] = by
        return (z,)

    return hook


def check_taylor(p: Pair) -> None:
    """Of heads, against masks on transformers' own projections and its autograd."""
    _require_heads(p)
    length, reference = int(LENGTHS[1]), copy.deepcopy(p.reference).double()
    heads = {i: block.n_heads for i, block in enumerate(p.model.spec.blocks) if block.n_heads}
    masks = {i: torch.ones(n, 1, dtype=torch.float64, requires_grad=True) for i, n in heads.items()}
    for i, mask in masks.items():
        reference.get_submodule(p.key("o", i)).register_forward_pre_hook(
            lambda _, args, mask=mask: ((args[0].unflatten(-1, (len(mask), -1)) * mask).flatten(-2),)
        )
    ids = p.ids[1:2, :length]
    logits = reference(ids, use_cache=False).logits[0, :-1]
    loss = -logits.log_softmax(-1).gather(1, ids[0, 1:, None]).sum()
    expected = -torch.cat(torch.autograd.grad(loss, [*masks.values()])).flatten()
    found = torch.from_numpy(taylor(p.model, ids, LENGTHS[1:2], kinds=["heads"], signed=True)[:, 0])
    assert_close(found, expected, 1e-4)  # transformers rotates and normalises in fp32, whatever the weights are


def check_pruned_files(p: Pair) -> None:
    """What `strata prune` writes, as transformers reads it, for each block that can go."""
    source = Source.of(p.folder.name, p.model.spec)
    for removed in ([0], [1], [2]):
        with tempfile.TemporaryDirectory() as out, torch.inference_mode():
            if (source.config.get(BY_INDEX) or p.model.spec.variant == "jamba") and removed != [2]:
                with pytest.raises(StrataError, match="remove the last blocks only"):
                    source.write(removed, Path(out), "safetensors")
                continue
            store = source.write(removed, Path(out), "safetensors")
            assert open_store(Path(out)).hash == store.hash
            ablated = p.model.run(p.ids, Ablation(blocks=removed))
            assert_close(by_transformers(Path(out), p.ids, "cpu", "float32"), ablated, 1e-4)
            assert_close(load(out, dtype="float32", device="cpu").run(p.ids), ablated)
            assert_close(remove_blocks(p.model, removed).run(p.ids), ablated)


def check_cut_files(p: Pair) -> None:
    """The same of heads and sub-layers, which are zeros in the files, and of heads that are deleted where transformers holds the rest."""
    source = Source.of(p.folder.name, p.model.spec)
    half = Ablation(heads={(i, h) for i, block in enumerate(p.model.blocks) for h in range(0, block.spec.n_heads or 0, 2)})
    for out, how in ((mixed(p.model.spec)[1], "zero"), *[(half, "auto")] * bool(half)):
        left = cut(p.model, source, out, how)
        with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
            store = source.write(sorted(out.blocks), Path(folder), "safetensors", left.changed, left.config)
            assert open_store(Path(folder)).hash == store.hash
            ablated = p.model.run(p.ids, out)
            assert_close(by_transformers(Path(folder), p.ids, "cpu", "float32"), ablated, 1e-4)
            found = load(folder, dtype="float32", device="cpu")
            assert_close(found.run(p.ids), ablated)
            assert_close(left.model.run(p.ids), ablated)
            assert (found.spec.n_params < p.model.spec.n_params) == (bool(out.blocks) or not left.zeroed)


def check_deletion_of_heads(p: Pair) -> None:
    """A block on the weights of fewer heads is what the contract says; a skip where heads do not go one by one."""
    for block in [block for block in p.model.blocks if block.spec.n_heads] or p.model.blocks:
        try:
            block.keep_heads([0])
        except StrataError as error:
            pytest.skip(str(error))
    check_kept_heads(p.model)


def check_texts(p: Pair) -> None:
    """What is written under all ablations at once is what transformers' modules find likeliest, reading all of it for each token."""
    model = copy.copy(p.model)
    model.tokenizer, model.end_tokens = ByteTokenizer(), ()
    lengths = (9, 4, 14)
    prompts = [Prompt(tuple(p.ids[d, :n].tolist()), 5) for d, n in enumerate(lengths)]
    chosen = plan(model.spec, [*mixed(model.spec), *mixed_experts(model.spec), Ablation(blocks={1})])
    for found in decode(model, chosen, prompts):
        text = torch.cat([p.ids[found.prompt, : lengths[found.prompt]], torch.tensor(found.tokens)])
        expected = p.logits(chosen.ablations[found.ablation], text[None])[0, lengths[found.prompt] - 1 : -1].argmax(-1)
        assert found.tokens == expected.tolist()


def check_every_key(p: Pair) -> None:
    """Each is needed, and no other is taken."""
    config, adapter = Source.of(p.folder.name, p.model.spec).config, FAMILIES[p.model.spec.family].adapter
    whole = open_store(Path(p.folder.name))
    shapes = dict(whole.shapes)
    for key in shapes:
        whole.shapes = {other: shape for other, shape in shapes.items() if other != key}
        with pytest.raises(StrataError, match="lacks the weight"):
            adapter.build(config, whole, "tiny")
    whole.shapes = shapes | {"new.weight": (2,)}
    with pytest.raises(StrataError, match=r"does not explain: new\.weight"):
        adapter.build(config, whole, "tiny")


PARITY = (
    check_forward,
    check_padding,
    check_ablations,
    check_means,
    check_taylor,
    check_pruned_files,
    check_cut_files,
    check_deletion_of_heads,
    check_texts,
    check_every_key,
)


def check_single_experts(p: Pair) -> None:
    """A sweep of all experts: each run again on the tokens that are sent to it, with as many FLOPs as the plan counts; without any
    effect where there are none and weights are renormalised."""
    spec, ids = p.model.spec, p.ids[:1, :3]
    experts = plan(spec, single_ablations(spec, ["experts"]))
    recording = p.model.with_blocks([Recorder(block) for block in p.model.blocks])
    tables = {f"{i}.{role}": t for i, block in enumerate(p.model.blocks) for role, t in block.weights.items()}
    with torch.inference_mode(), Factors(tables) as factors:
        nll = sweep(recording, experts, ids, kl=False)["nll"][:, 0]
    tokens = ids.numel()
    for level, block, recorder in zip(experts.levels, spec.blocks, recording.blocks, strict=True):
        assert sum(recorder.again) == round(level.again * tokens) == block.experts_per_token * tokens * bool(block.n_experts)
    exact = [block.renormalised for block in p.model.blocks]
    shared = [3 * (block.d_ffn if block.shared_expert and not whole else 0) for block, whole in zip(spec.blocks, exact, strict=True)]
    # once for each block: where its tokens were sent, and what grows with their weights
    asked_again = sum(2 * spec.d_model * (block.n_experts + rows) for block, rows in zip(spec.blocks, shared, strict=True))
    assert factors.flops == tokens * (experts.flops_per_token - len(experts.ablations) * spec.unembed_flops + asked_again)
    sent = [set(chosen.flatten().tolist()) for chosen in chosen_experts(p.reference, ids)]
    unchosen = 0
    for ablation, value in zip(experts.ablations[1:], nll[1:], strict=True):
        ((i, expert),) = ablation.experts
        unchosen += expert not in sent[i]
        assert value == nll[0] or expert in sent[i] or not exact[i]
    assert unchosen, "every expert of every block was chosen"
    assert (nll[1:] != nll[0]).any()


def check_all_experts(p: Pair) -> None:
    """All experts out is the ffn out, or what is beside them alone."""
    for i, block in enumerate(p.model.spec.blocks):
        if block.n_experts:
            everything = Ablation(experts={(i, e) for e in range(block.n_experts)})
            assert (everything.canonical(p.model.spec) == Ablation(ffns={i})) != block.shared_expert
            with torch.inference_mode():
                assert_close(p.model.run(p.ids, everything), p.logits(everything))
                if not block.shared_expert:
                    assert torch.equal(p.model.run(p.ids, everything), p.model.run(p.ids, Ablation(ffns={i})))


def check_deletion_of_experts(p: Pair) -> None:
    """Files without some experts of every block that has any, as transformers reads them, are the ablation; of unequal numbers there are
    none."""
    spec, source = p.model.spec, Source.of(p.folder.name, p.model.spec)
    sparse = [i for i, block in enumerate(spec.blocks) if block.n_experts]
    n = spec.blocks[sparse[0]].n_experts
    periods = spec.variant == "jamba"  # one expert is an MLP there, and no other block may come into the place of the first
    one, most = {(i, (i + 1) % n) for i in sparse}, {(i, e) for i in sparse for e in range(n) if (e - i - 2) % n > periods}
    for removed, experts in (([], one), ([], most), *[([0], {(i, e) for i, e in one if i})] * (not periods)):
        with tempfile.TemporaryDirectory() as out, torch.inference_mode():
            store = source.write(removed, Path(out), "safetensors", experts=experts)
            assert open_store(Path(out)).hash == store.hash
            ablated = p.model.run(p.ids, Ablation(blocks=removed, experts=experts))
            assert_close(by_transformers(Path(out), p.ids, "cpu", "float32"), ablated, 1e-4)
            few = load(out, dtype="float32", device="cpu")
            assert_close(few.run(p.ids), ablated)
            made = remove_blocks(p.model, removed, experts)
            assert_close(made.run(p.ids), ablated)
            assert made.spec.blocks == few.spec.blocks
            gone = saved(p.model, Ablation(blocks=removed, experts=experts))
            assert (spec.n_params - gone.params, spec.flops_per_token - gone.flops) == (few.spec.n_params, few.spec.flops_per_token)
            assert spec.active_params - (gone.params - gone.idle) == few.spec.active_params
    if len(sparse) > 1:
        with pytest.raises(
            StrataError, match=f"{n - 1} experts would stay in block {sparse[0]} and {n} in block {sparse[1]}: stock loaders"
        ):
            source.without([], experts={(sparse[0], 0)})
    with pytest.raises(StrataError, match=r"all experts of .* would be removed: at least one must stay in each block"):
        source.without([], experts={(i, e) for i in sparse for e in range(n)})


EXPERTS = (check_single_experts, check_all_experts, check_deletion_of_experts)


def parametrize_against_hf(
    model_type: str, configs: Mapping[str, Mapping[str, Any]], *, long: bool = False, also: Sequence[Callable[[Pair], None]] = ()
) -> Any:
    """A pytest mark: one case, a call without arguments, for each configuration and check, those of the contract among them.

    All but the first configuration are long tests; with `long` that too, where another family tests the same abilities. `also`: checks
    of what not every family has, such as EXPERTS.
    """
    cases = []
    for name, config in configs.items():
        make = functools.cache(functools.partial(Pair, model_type, config))
        marks = [pytest.mark.shows(model_type, against="transformers"), *[pytest.mark.long] * (long or bool(cases))]
        cases += [pytest.param(functools.partial(_of_pair, c, make), id=f"{name}-{c.__name__}", marks=marks) for c in (*PARITY, *also)]
        cases += [pytest.param(functools.partial(_of_model, c, make), id=f"{name}-contract-{c.__name__}", marks=marks) for c in CHECKS]
    return pytest.mark.parametrize("check", cases)


def _of_pair(check: Callable[[Pair], None], make: Callable[[], Pair]) -> None:
    check(make())


def _of_model(check: Callable[[BlockModel], None], make: Callable[[], Pair]) -> None:
    check(make().model)


def refuses(model_type: str, config: Mapping[str, Any], says: str, **changes: Any) -> None:
    """The build of a tiny model whose config.json is changed raises a StrataError that says so."""
    p = Pair(model_type, config)
    source = Source.of(p.folder.name, p.model.spec)
    with pytest.raises(StrataError, match=says):
        FAMILIES[p.model.spec.family].adapter.build(source.config | changes, source.store, "tiny")
