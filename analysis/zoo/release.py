"""Finished training as model folders under adapters/zoo, with what each scores on held-out text, and the model card."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from adapters.base import BlockModel
from adapters.catalogue import ZOO
from adapters.errors import StrataError
from adapters.registry import load
from analysis.data.batches import batches, tokenizer_of
from analysis.data.documents import documents, sample
from analysis.display.format import listed
from analysis.engine.text_scores import TextScores
from analysis.runs.files import say, to_json, write_text
from analysis.stats.intervals import Interval, ratio
from analysis.stats.seeds import ENOUGH
from analysis.zoo.architectures import ARCHITECTURES, CONTEXT
from analysis.zoo.card import card
from analysis.zoo.groups import known_models, other_depth
from analysis.zoo.texts import SEPARATOR, Rows, Texts, clean
from analysis.zoo.training import read_state

DOCUMENTS = 256  # held-out documents, one window of CONTEXT tokens each
PAIRS = (("llama", "rwkv5"), ("llama", "mamba2"), ("llama", "rwkv7"))  # compared at equal tokens and at equal loss; the first counts most
CLOSE = 0.02  # nats per token on development text: losses that are called equal
LIMIT = 105  # MB of all released files, of which equal ones (tokenizers) count once: compressed, the 100 that a package index takes
RECIPE = ("batch", "context", "muon", "adam")  # of a plan
WEIGHTS, BESIDE = "model.safetensors", 3000  # bytes of a model's configurations and facts, about
TOKENIZER = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": SEPARATOR, "clean_up_tokenization_spaces": False}


@dataclass(frozen=True, slots=True)
class Finished:
    """One training that has reached its last step."""

    folder: Path
    plan: Mapping[str, Any]
    curve: Mapping[int, float]  # nats per token on the development rows, by steps

    @property
    def name(self) -> str:
        return f"{self.plan['model']}-{self.plan['seed']}"

    @property
    def steps(self) -> int:
        return self.plan["steps"]

    @property
    def loss(self) -> float:
        return self.curve[self.steps]


@dataclass(frozen=True, slots=True)
class Choice:
    """Weights to publish: of `training` after `steps`; `equals` names the model whose loss they were chosen by."""

    training: Finished
    steps: int
    equals: str | None = None

    @property
    def name(self) -> str:
        return self.training.name + ("-early" if self.equals else "")

    @property
    def weights(self) -> Path:
        return self.training.folder / "weights" / f"{self.steps:06}.safetensors"


def release(out: Path, target: Path = ZOO, limit: float = LIMIT) -> None:
    """Writes the finished models in `out` to `target`, with zoo.json and README.md; other models there stay, and so do their facts.

    What `limit` (MB) does not hold is left out, in the order of `_weight`, removed if it was there, and named. Raises StrataError when
    nothing is finished, when models that would lie side by side had different data or steps, and when the corpus is no longer the
    text that was trained on.
    """
    trainings = finished(out)
    known = known_models(target / "zoo.json")
    chosen = choices(trainings, {name: m["development_nll"] for name, m in known.items() if not m["equals"]})
    models = _others(target, known, {choice.name for choice in chosen}, trainings[0].plan)
    held = within(chosen, limit * 1e6 - sum((target / name / WEIGHTS).stat().st_size for name in models))
    if not held and not models:
        raise StrataError(f"{limit:g} MB hold no model of the zoo: give more with --limit")
    tokens = train_tokens(trainings[0].plan)
    for choice in chosen:
        folder = target / choice.name
        if choice in held:
            publish(choice, folder)
            models[choice.name] = facts(choice, load(folder, device="cpu", dtype="float32"), tokens)
        elif folder.is_dir():
            shutil.rmtree(folder)
    if out_of_room := [choice.name for choice in chosen if choice not in held]:
        say(f"{listed(out_of_room)} left out: {limit:g} MB hold {len(models)} models (`--limit`)")
    models = dict(sorted(models.items(), key=lambda item: _place(item[0])))
    write_text(target / "zoo.json", to_json({"schema": 1, "models": models}))
    write_text(target / "README.md", card(models))


def within(chosen: Sequence[Choice], room: float) -> list[Choice]:
    """Those that `room` bytes hold, the weightiest first."""
    held, tokenizers = [], set[bytes]()
    for choice in sorted(chosen, key=_weight):
        size = choice.weights.stat().st_size + BESIDE
        tokenizer = (choice.training.folder / "tokenizer.json").read_bytes()
        size += len(tokenizer) * (tokenizer not in tokenizers)
        if size <= room:
            tokenizers.add(tokenizer)
            held.append(choice)
            room -= size
    return held


def _weight(choice: Choice) -> tuple[int, int, int]:
    """What goes first where not everything has room: ends of trainings of one depth, the early ones of the first pair, other depths,
    those of one other pair after the other, and early ones of more seeds than a word on architectures needs; of each the first seeds."""
    model, seed = choice.training.plan["model"], choice.training.plan["seed"]
    rank = 2 * other_depth({"architecture": ARCHITECTURES[model].title})
    if choice.equals:
        pair = next(i for i, pair in enumerate(PAIRS) if set(pair) == {model, choice.equals.split("-")[0]})
        rank = 1 + 2 * (len(PAIRS) if seed >= ENOUGH else pair)
    return rank, seed, list(ARCHITECTURES).index(model)


def _others(target: Path, known: Mapping[str, dict[str, Any]], names: set[str], plan: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Facts of the models in `target` that are not of `names`. Raises StrataError where they were not trained as `plan` says."""
    others = {name: m for name, m in known.items() if name not in names and (target / name / "config.json").is_file()}
    for name, m in others.items():
        alike = {"data": plan["data"], "tokenizer": plan["tokenizer"], "of_steps": plan["steps"], "recipe": recipe(plan)}
        for key, expected in alike.items():
            if m[key] != expected:
                raise StrataError(
                    f"{target} holds {name}, whose {key} is {m[key]}, that of the finished models is {expected}: "
                    f"train them alike, or remove {target / name}"
                )
    return others


def _place(name: str) -> tuple[int, int, bool]:
    model, seed, *early = name.split("-")
    return list(ARCHITECTURES).index(model), int(seed), bool(early)


def recipe(plan: Mapping[str, Any]) -> dict[str, float]:
    """What is trained alike, beside data and steps."""
    return {key: plan[key] for key in RECIPE}


def train_tokens(plan: Mapping[str, Any]) -> int:
    """Tokens in the text that was trained on, each counted once. Raises StrataError when the corpus holds another text."""
    texts = Texts.of(clean(documents("texts")))
    if texts.hash != plan["data"]:
        raise StrataError(
            f"the corpus `texts` is not what the models were trained on ({texts.hash}, theirs is {plan['data']}): train again"
        )
    return Rows(texts.train, texts.tokenizer, 0).tokens


def finished(out: Path) -> list[Finished]:
    """Every training in `out` that reached its last step, in the order of ARCHITECTURES and seeds."""
    states = [(path.parent, read_state(path)) for path in sorted(out.glob("*/state.pt"))]
    found = [Finished(folder, asdict(s.plan), s.curve) for folder, s in states if len(s.losses) == s.plan.steps]
    if not found:
        raise StrataError(f"no training in {out} is finished: run `python -m analysis.zoo` to its end, or give another --out")
    for key in ("data", "tokenizer", "steps", *RECIPE):
        if len(values := {str(t.plan[key]) for t in found}) > 1:
            raise StrataError(f"the models in {out} differ in {key} ({', '.join(sorted(values))}): train them alike, or give another --out")
    order = list(ARCHITECTURES)
    return sorted(found, key=lambda t: (order.index(t.plan["model"]), t.plan["seed"]))


def choices(trainings: list[Finished], released: Mapping[str, float]) -> list[Choice]:
    """The end of every training and, for seeds with both of a pair, the kept step of the better that is nearest to the other's loss.

    A training has one early checkpoint, that of the first of PAIRS, and none where no kept step comes CLOSE. `released`: what
    models lose at their end whose trainings need not be at hand, by name: the other of a pair may be one of them.
    """
    by_name = {t.name: t for t in trainings}
    losses = {**released, **{t.name: t.loss for t in trainings}}
    early: dict[str, Choice] = {}
    for pair in PAIRS:
        for seed in sorted({t.plan["seed"] for t in trainings}):
            both = [name for model in pair if (name := f"{model}-{seed}") in losses]
            better, worse = sorted(both, key=losses.__getitem__) if len(both) == len(pair) else ("", "")
            if of := by_name.get(better):
                before = {step: abs(loss - losses[worse]) for step, loss in of.curve.items() if step < of.steps}
                steps = min(before, key=before.__getitem__, default=0)
                if before.get(steps, math.inf) <= CLOSE:
                    early.setdefault(better, Choice(of, steps, worse))
    return [*(Choice(t, t.steps) for t in trainings), *early.values()]


def publish(choice: Choice, folder: Path) -> None:
    """Weights as trained, config.json and the tokenizer, as the loaders of each family expect them."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(choice.weights, folder / WEIGHTS)
    shutil.copyfile(choice.training.folder / "tokenizer.json", folder / "tokenizer.json")
    config = ARCHITECTURES[choice.training.plan["model"]].config
    for name, content in (("config.json", config), ("tokenizer_config.json", TOKENIZER)):
        write_text(folder / name, to_json(content))


def facts(choice: Choice, model: BlockModel, train_tokens: int) -> dict[str, Any]:
    """What zoo.json holds about one model. `train_tokens`: in the text that was trained on."""
    plan = choice.training.plan
    interval, tokens = held_out(model)
    return {
        "architecture": ARCHITECTURES[plan["model"]].title,
        "seed": plan["seed"],
        "steps": choice.steps,
        "of_steps": plan["steps"],
        "tokens": choice.steps * plan["batch"] * plan["context"],
        "train_tokens": train_tokens,
        "n_params": model.spec.n_params,
        "weights": model.spec.source_hash,
        "data": plan["data"],
        "tokenizer": plan["tokenizer"],
        "recipe": recipe(plan),
        "equals": choice.equals,
        "development_nll": choice.training.curve[choice.steps],
        "held_out": {"bits_per_byte": interval.value, "low": interval.low, "high": interval.high, "documents": DOCUMENTS, "tokens": tokens},
        "curve": {str(step): loss for step, loss in sorted(choice.training.curve.items())},
        "versions": {name: version(name) for name in ("torch", "tokenizers")},
    }


@torch.inference_mode()
def held_out(model: BlockModel, n: int = DOCUMENTS) -> tuple[Interval, int]:
    """Bits per byte on held-out text with its interval over documents, and the tokens scored."""
    windows = sample("texts", n, CONTEXT, tokenizer_of(model))
    nll, n_bytes, tokens = [], [], 0
    for batch in batches(windows, model):
        scores = TextScores(model, batch.ids, batch.lengths, 1, kl=False)
        scores.add([0], [model.stream(batch.ids, lengths=batch.lengths)])
        nll.append(scores.sums["nll"][0].numpy())
        n_bytes.append(batch.bytes)
        tokens += int(batch.tokens.sum())
    return ratio(np.concatenate(nll) / np.log(2), np.concatenate(n_bytes)), tokens
