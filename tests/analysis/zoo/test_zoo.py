"""The zoo: equal sizes, equal text in equal order, training that repeats itself and goes on where it was killed, honest figures."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from adapters import StrataError, load
from adapters.catalogue import PACKAGES, ZOO, zoo
from analysis.data.documents import SPLITS, Document
from analysis.stats.intervals import Interval
from analysis.zoo import release, training
from analysis.zoo import texts as zoo_texts
from analysis.zoo.__main__ import main, train
from analysis.zoo.architectures import ARCHITECTURES, CONTEXT, VOCAB
from analysis.zoo.card import READ, card
from analysis.zoo.release import Choice, Finished, choices, finished, publish
from analysis.zoo.texts import DEVELOPMENT, SEPARATOR, SPAN, Rows, Texts, clean, train_tokenizer
from analysis.zoo.training import Plan, Training, rate
from tests.reference import baichuan
from tests.reference.rwkv_package import package_logits

ROOT = Path(__file__).parents[3]
Trained = Callable[[str], tuple[Training, Path]]
RELEASED = json.loads((ZOO / "zoo.json").read_text())["models"] if (ZOO / "zoo.json").is_file() else {}
needs_texts = pytest.mark.skipif(
    importlib.util.find_spec(PACKAGES["texts"].module) is None, reason="needs the offline texts: run `strata fetch texts`"
)


def documents(split: str = "train") -> list[Document]:
    """The project's own sources, cut into documents."""
    files = sorted([*ROOT.glob("*/*.py"), *ROOT.glob("tests/*/*.py"), ROOT / "LICENSE"])
    text = "\n".join(path.read_text() for path in files)[:500_000]
    found = [Document.of(text[i : i + 500]) for i in range(0, len(text), 500)]
    return [d for d in found if d.split(SPLITS) == split]


@pytest.fixture(scope="module")
def texts() -> Texts:
    return Texts.of(documents())


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    """Short rows and little development text; the models have their real sizes."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("DEVELOPMENT_ROWS", 2), ("SAVE", 2), ("KEEP", 3), ("WARM_UP", 2)):
            patch.setattr(training, name, value)
        patch.setattr(zoo_texts, "CONTEXT", 48)
        yield


def plan(model: str = "llama", **changes: object) -> Plan:
    return Plan(**({"model": model, "seed": 0, "steps": 5, "data": "d", "tokenizer": "t", "batch": 1} | changes))


@pytest.fixture(scope="module")
def trained(texts: Texts, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Training of an architecture to its end, and the folder that it was published to."""

    @cache
    def make(model: str) -> tuple[Training, Path]:
        root = tmp_path_factory.mktemp(model)
        made = Training(plan(model), texts, root / "training")
        made.run()
        (root / "training" / "tokenizer.json").write_text(texts.tokenizer.to_str(), encoding="utf-8")
        publish(Choice(Finished(made.folder, asdict(made.plan), made.curve), 5), root / f"{model}-0")
        return made, root / f"{model}-0"

    return make


def ids_of(texts: Texts, time: int = 60) -> Tensor:
    return Rows(texts.train, texts.tokenizer, 3).take(0, 2)[:, :time]


def close(a: Tensor, b: Tensor, tolerance: float = 2e-5) -> bool:
    return bool((a - b).abs().max() <= tolerance * b.std())


# architectures


KINDS = {"llama": 12, "baichuan": 12, "rwkv5": 12, "rwkv7": 12, "mamba2": 12}
DEPTHS = {"llama6": 6, "llama24": 24, "rwkv5x6": 6, "rwkv5x24": 24}


def test_parameters_are_equal_to_one_percent() -> None:
    assert list(ARCHITECTURES) == [*KINDS, *DEPTHS]
    sizes = []
    for name, architecture in ARCHITECTURES.items():
        model = architecture.build(*architecture.initial(torch.Generator().manual_seed(0)), name)
        assert len(model.blocks) == (KINDS | DEPTHS)[name]
        assert (model.spec.vocab_size, model.spec.max_len) == (VOCAB, CONTEXT)
        sizes.append(model.spec.n_params)
    assert max(sizes) / min(sizes) < 1.01


def test_variants_are_the_ones_that_are_named() -> None:
    built = {name: a.build(*a.initial(torch.Generator().manual_seed(0)), name) for name, a in ARCHITECTURES.items() if name in KINDS}
    assert {name: model.spec.variant for name, model in built.items()} == {
        "llama": "llama",
        "baichuan": "baichuan2-13b",
        "rwkv5": "5.2",
        "rwkv7": "7",
        "mamba2": "mamba2",
    }
    block = built["llama"].spec.blocks[0]
    assert (block.n_heads, block.n_kv_heads) == (4, 2)


@pytest.mark.parametrize("name", KINDS)
def test_starts_near_chance_and_from_the_seed(name: str) -> None:
    architecture = ARCHITECTURES[name]
    a, b, c = (architecture.build(*architecture.initial(torch.Generator().manual_seed(s)), name) for s in (0, 0, 1))
    ids = torch.arange(64)[None] * 7
    logits = [model.run(ids) for model in (a, b, c)]
    assert torch.equal(logits[0], logits[1])
    assert not torch.equal(logits[0], logits[2])
    chance = F.cross_entropy(logits[0][0, :-1], ids[0, 1:])
    assert float(chance) == pytest.approx(np.log(VOCAB), abs=1.2)


# text


def test_tokenizer_is_the_same_each_time_and_loses_nothing(texts: Texts) -> None:
    again = train_tokenizer(d.text for d in texts.train)
    assert again.to_str() == texts.tokenizer.to_str()
    assert again.get_vocab_size() == VOCAB
    assert again.token_to_id(SEPARATOR) == 0
    odd = "naïve 汉字 \U0001f600\n\ttabs  and   spaces"
    assert again.decode(again.encode(odd).ids) == odd


def test_development_text_is_not_trained_on(texts: Texts) -> None:
    train_ids, development = ({d.id for d in part} for part in (texts.train, texts.development))
    assert not train_ids & development
    assert len(development) / (len(train_ids) + len(development)) == pytest.approx(DEVELOPMENT / 100, abs=0.02)


@pytest.mark.parametrize("split", ["held-out", "calibration", "benchmark"])
def test_text_of_another_split_is_refused(split: str) -> None:
    with pytest.raises(StrataError, match=f"overlaps the {split} split"):
        Texts.of([*documents()[:50], documents(split)[0]])


def test_passages_that_come_back_in_another_split_are_left_out() -> None:
    held_out, *_ = documents("held-out")
    words = " ".join(f"word{i}" for i in range(40))
    copies = [Document.of(f"{words} {i} {held_out.text}") for i in range(40)]
    quoting = [d for d in copies if d.split(SPLITS) == "train"]
    short = [d for i in range(40) if (d := Document.of(f"{i} {' '.join(held_out.text.split()[: SPAN - 1])}")).split(SPLITS) == "train"]
    assert len(held_out.text.split()) >= SPAN
    assert quoting
    assert short
    assert clean([held_out, *quoting, *short]) == short
    assert clean(quoting) == quoting


def test_too_little_text_is_refused(texts: Texts) -> None:
    with pytest.raises(StrataError, match="give a longer text"):
        Texts.of(texts.train[:2])
    with pytest.raises(StrataError, match="less than a row"):
        Rows([Document.of("short")], texts.tokenizer, 0)


def test_an_epoch_reads_every_token_once(texts: Texts) -> None:
    rows = Rows(texts.train, texts.tokenizer, seed=0)
    context = rows.take(0, 1).shape[1] - 1
    n = (rows.tokens - 1) // context
    epochs = [rows.take(epoch * n, n) for epoch in range(2)]
    expected = np.bincount([t for d in texts.train for t in (0, *texts.tokenizer.encode(d.text).ids)], minlength=VOCAB)
    for epoch in epochs:
        read = np.bincount(epoch[:, :-1].flatten().numpy(), minlength=VOCAB)
        assert (read <= expected).all()
        assert expected.sum() - read.sum() <= context
    assert not torch.equal(*epochs)


def test_rows_are_consecutive_tokens_of_the_text(texts: Texts) -> None:
    document = texts.train[0]
    whole = f" {' '.join(map(str, [0, *texts.tokenizer.encode(document.text).ids] * 3))} "
    for row in Rows([document] * 40, texts.tokenizer, 0).take(0, 20).tolist():
        assert f" {' '.join(map(str, row))} " in whole


def test_order_follows_the_seed_alone(texts: Texts) -> None:
    a, b, c = (Rows(texts.train, texts.tokenizer, seed) for seed in (0, 0, 1))
    b.take(300, 4)  # what was read before does not matter
    assert torch.equal(a.take(5, 20), b.take(5, 20))
    assert not torch.equal(a.take(5, 20), c.take(5, 20))


# training


@pytest.mark.parametrize("name", [*KINDS, *(pytest.param(name, marks=pytest.mark.long) for name in DEPTHS)])
def test_a_killed_training_goes_on_to_the_same_curve_and_weights(name: str, trained: Trained, texts: Texts, tmp_path: Path) -> None:
    whole, _ = trained(name)

    def kill(step: int, loss: float) -> None:
        if step == 3:  # the last save was at step 2
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Training(plan(name), texts, tmp_path / "killed").run(kill)
    resumed = Training(plan(name), texts, tmp_path / "killed")
    resumed.run()
    assert (resumed.losses, resumed.curve) == (whole.losses, whole.curve)
    assert list(whole.curve) == [0, 1, 2, 3, 4, 5]
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters, resumed.parameters, strict=True))
    start = Training(plan(name), texts, tmp_path).parameters
    assert all(not torch.equal(a, b) for a, b in zip(whole.parameters, start, strict=True))  # nothing is left out


@pytest.mark.parametrize("name", KINDS)
def test_learns_a_row_by_heart(name: str, texts: Texts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Training(plan(name, steps=12), texts, tmp_path)
    row = made.rows.take(0, 1)
    monkeypatch.setattr(made.rows, "take", lambda first, n: row)
    for _ in range(12):
        made.step()
    assert made.losses[-1] < made.losses[0] - 1


GRADIENTS = {  # of two roles, by transformers' names
    "llama": {"model.embed_tokens.weight": (0, "embed"), "model.layers.5.self_attn.k_proj.weight": (6, "k")},
    "mamba2": {"backbone.embeddings.weight": (0, "embed"), "backbone.layers.5.mixer.dt_bias": (6, "step_bias")},
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_loss_and_gradients_are_those_of_hugging_face(name: str, trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "COMPUTE", torch.float32)
    made, folder = trained(name)
    rows = made.rows.take(0, 2)
    loss = made.loss(rows)
    loss.backward()
    reference = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    state = made.architecture.layout.write(*({r: t.detach() for r, t in made.tables[0].items()}, made.tables[1:]))
    reference.load_state_dict({key: t.detach() for key, t in state.items()})
    expected = F.cross_entropy(reference(rows[:, :-1]).logits.flatten(0, 1), rows[:, 1:].flatten())
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    for key, (table, role) in GRADIENTS[name].items():
        assert close(made.tables[table][role].grad, reference.get_parameter(key).grad, 1e-4)


def test_muon_has_the_matrices_and_adam_the_rest(texts: Texts, tmp_path: Path) -> None:
    for name, count in (("llama", 7), ("baichuan", 7), ("rwkv5", 8), ("rwkv7", 6), ("mamba2", 5)):
        muon, adam = (o.param_groups[0] for o in Training(plan(name), texts, tmp_path).optimizers)
        assert len(muon["params"]) == count * KINDS[name]
        assert all(p.dim() == 2 for p in muon["params"])
        assert (muon["weight_decay"], adam["weight_decay"]) == (0, 0)


def test_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "WARM_UP", 40)
    rates = [rate(step, 1000) for step in range(1000)]
    assert rates[0] == pytest.approx(1 / 40)
    assert int(np.argmax(rates)) == 39
    assert rates[-1] == pytest.approx(0.02)
    assert (np.diff(rates[39:]) < 0).all()


def test_another_plan_is_refused(texts: Texts, tmp_path: Path) -> None:
    Training(plan(steps=1), texts, tmp_path).run()
    with pytest.raises(StrataError, match="differs in data, adam"):
        Training(plan(steps=1, data="other", adam=1e-3), texts, tmp_path).run()


def test_two_processes_do_not_train_the_same(texts: Texts, tmp_path: Path) -> None:
    second = Training(plan(), texts, tmp_path)

    def meanwhile(step: int, loss: float) -> None:
        second.run()

    with pytest.raises(StrataError, match="another process trains"):
        Training(plan(), texts, tmp_path).run(meanwhile)


def test_a_loss_that_is_not_finite_stops_training(texts: Texts, tmp_path: Path) -> None:
    made = Training(plan(), texts, tmp_path)
    with torch.no_grad():
        made.tables[0]["norm"].fill_(float("nan"))
    with pytest.raises(StrataError, match="the loss of llama-0 is nan at step 0"):
        made.step()


# release


@pytest.mark.parametrize("name", ["llama", "mamba2"])
def test_hugging_face_loads_it(name: str, trained: Trained, texts: Texts) -> None:
    _, folder = trained(name)
    ids = ids_of(texts)
    with torch.inference_mode():
        expected = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)(ids).logits
        assert close(load(folder, device="cpu").run(ids), expected)
    text = "Words, 汉字 and\n lines."
    encoding = load(folder, device="cpu").tokenizer.encode(text)
    assert AutoTokenizer.from_pretrained(folder)(text).input_ids == encoding.ids
    assert encoding.byte_ends[-1] == len(text.encode())


def test_baichuan_is_as_published(trained: Trained, texts: Texts) -> None:
    _, folder = trained("baichuan")
    tensors, ids = load_file(folder / "model.safetensors"), ids_of(texts)
    assert "model.layers.3.self_attn.W_pack.weight" in tensors
    expected, _ = baichuan.naive(
        json.loads((folder / "config.json").read_text()), {k: t.double() for k, t in tensors.items()}, ids, alibi=True, norm_head=True
    )
    assert close(load(folder, device="cpu").run(ids).double(), expected)


@pytest.mark.parametrize("name", ["rwkv5", "rwkv7"])
def test_the_rwkv_package_gives_the_same_logits(name: str, trained: Trained, texts: Texts, tmp_path: Path) -> None:
    _, folder = trained(name)
    ids = ids_of(texts)[0]
    weights = {key: t.float() for key, t in load_file(folder / "model.safetensors").items()}
    (expected,) = package_logits([(weights, ids)], tmp_path)
    assert close(load(folder, device="cpu").run(ids[None])[0], expected)


@pytest.mark.parametrize("name", KINDS)
def test_published_weights_are_those_of_the_training(name: str, trained: Trained) -> None:
    made, folder = trained(name)
    model = load(folder, device="cpu")
    rows = made.rows.take(0, 2)
    loss = F.cross_entropy(model.run(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())
    with torch.no_grad():
        assert float(loss) == pytest.approx(float(made.loss(rows)), abs=0.01)  # fp16 weights in fp32 against bf16


def of_training(name: str, loss: float, curve: dict[int, float]) -> Finished:
    model, seed = name.split("-")
    return Finished(Path(name), {"model": model, "seed": int(seed), "steps": 100}, {**curve, 100: loss})


def test_the_early_checkpoint_is_the_one_with_the_nearest_loss() -> None:
    curve = {0: 7.6, 20: 4.1, 40: 3.8, 60: 3.6}
    found = choices([of_training("llama-0", 3.79, {}), of_training("rwkv5-0", 3.4, curve), of_training("rwkv7-0", 3.3, {80: 3.8})], {})
    assert [(c.name, c.steps, c.equals) for c in found] == [
        ("llama-0", 100, None),
        ("rwkv5-0", 100, None),
        ("rwkv7-0", 100, None),
        ("rwkv5-0-early", 40, "llama-0"),
        ("rwkv7-0-early", 80, "llama-0"),
    ]
    far = choices([of_training("llama-0", 3.7, {}), of_training("rwkv5-0", 3.4, curve)], {})
    assert not any(c.equals for c in far), "no kept step is close enough to call its loss equal"
    end = choices([of_training("llama-0", 3.5, {}), of_training("mamba2-0", 3.495, {80: 3.515})], {})
    assert [(c.name, c.steps) for c in end if c.equals] == [("mamba2-0-early", 80)], "its end is no early one"
    worst = choices([of_training("llama-0", 3.0, {60: 3.4}), of_training("rwkv5-0", 3.4, {}), of_training("rwkv7-0", 3.5, {})], {})
    assert [c.equals for c in worst if c.equals] == ["rwkv5-0"], "one early checkpoint of a training"
    assert len(choices([of_training("llama-0", 3.7, {}), of_training("rwkv5-1", 3.4, curve)], {})) == 2
    known = choices([of_training("rwkv5-0", 3.4, curve), of_training("rwkv7-0", 3.9, {80: 4})], {"llama-0": 3.79, "rwkv5-0": 0.0})
    assert [(c.name, c.steps, c.equals) for c in known if c.equals] == [("rwkv5-0-early", 40, "llama-0")], "kept steps of one suffice"


def test_what_has_no_room_is_left_out_the_last_seeds_and_depths_first(tmp_path: Path) -> None:
    """Files of 1 MB with one tokenizer: as many as fit, ends of one depth first, and then the early ones of the first pair."""
    found = []
    for name in ("llama-0", "llama-1", "rwkv5-0", "rwkv5-1", "rwkv7-0", "mamba2-1", "llama24-0"):
        loss = 3.7 if name.startswith("llama") else 3.4
        t = of_training(name, loss, {80: 3.7})
        (tmp_path / name / "weights").mkdir(parents=True)
        for step in (80, 100):
            (tmp_path / name / "weights" / f"{step:06}.safetensors").write_bytes(bytes(10**6))
        (tmp_path / name / "tokenizer.json").write_bytes(bytes(10**5))
        found.append(Finished(tmp_path / name, t.plan, t.curve))
    chosen = choices(found, {})
    order = ["llama-0", "rwkv5-0", "rwkv7-0", "llama-1", "rwkv5-1", "mamba2-1", "rwkv5-0-early", "rwkv5-1-early", "llama24-0"]
    order += ["mamba2-1-early", "rwkv7-0-early"]  # in the order of PAIRS
    for n in (3, 8, 10, 11):
        assert [c.name for c in release.within(chosen, n * 1_003_000 + 100_000)] == order[:n]


def save_state(out: Path, made: Plan) -> None:
    """As a finished training saves it, but for the weights."""
    (out / made.name).mkdir(parents=True)
    torch.save({"plan": asdict(made), "losses": [7.0] * made.steps, "curve": {made.steps: 7.0}}, out / made.name / "state.pt")


@pytest.mark.parametrize("key", ["steps", "muon", "adam", "data"])
def test_only_finished_and_equal_trainings_are_released(key: str, tmp_path: Path) -> None:
    with pytest.raises(StrataError, match="no training in"):
        finished(tmp_path)
    save_state(tmp_path, plan("llama"))
    save_state(tmp_path, plan("rwkv5", **{key: "other" if key == "data" else 3}))
    with pytest.raises(StrataError, match=f"differ in {key}"):
        finished(tmp_path)


def test_a_release_keeps_the_facts_of_the_models_beside_it(
    trained: Trained, texts: Texts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(release, "train_tokens", lambda plan: 4_915_200)
    monkeypatch.setattr(release, "held_out", lambda model: (Interval(1.9, 1.8, 2.0), 255))
    out, target = tmp_path / "out", tmp_path / "zoo"
    out.mkdir()
    made, folder = trained("baichuan")
    (out / "baichuan-0").symlink_to(made.folder)
    shutil.copytree(folder, target / "rwkv5-0")
    there = {"rwkv5-0": facts(of_steps=5), "rwkv7-0": facts(of_steps=7)}
    (target / "zoo.json").write_text(json.dumps({"schema": 1, "models": there}))
    release.release(out, target)
    models = json.loads((target / "zoo.json").read_text())["models"]
    assert list(models) == ["baichuan-0", "rwkv5-0"], "what has no folder is gone"
    assert models["rwkv5-0"] == there["rwkv5-0"]
    assert models["baichuan-0"]["architecture"].startswith("Baichuan2-13B layout (")
    assert (target / "README.md").read_text() == card(models)
    release.release(out, target)
    assert json.loads((target / "zoo.json").read_text())["models"] == models

    before = (target / "zoo.json").read_text().replace('"data": "d"', '"data": "e"', 2)
    (target / "zoo.json").write_text(before)
    with pytest.raises(StrataError, match="holds rwkv5-0, whose data is e, that of the finished models is d"):
        release.release(out, target)
    (target / "zoo.json").write_text(before.replace('"data": "e"', '"data": "d"').replace('"muon": 0.02', '"muon": 0.1'))
    with pytest.raises(StrataError, match="holds rwkv5-0, whose recipe is "):
        release.release(out, target)
    (target / "zoo.json").write_text(before)
    assert (target / "zoo.json").read_text() == before


def facts(**changes: object) -> dict:
    return {
        "architecture": ARCHITECTURES["llama"].title,
        "seed": 0,
        "steps": 1500,
        "of_steps": 1500,
        "tokens": 6_144_000,
        "train_tokens": 4_915_200,
        "n_params": 1_833_312,
        "data": "d",
        "tokenizer": "t",
        "recipe": release.recipe(asdict(plan("llama"))),
        "weights": "w",
        "equals": None,
        "development_nll": 3.7,
        "held_out": {"bits_per_byte": 1.912, "low": 1.877, "high": 1.949, "documents": 256, "tokens": 65280},
        "versions": {"torch": "2.13.0"},
    } | changes


def test_card_says_what_was_measured() -> None:
    rwkv = facts(architecture=ARCHITECTURES["rwkv5"].title, n_params=1_850_000)
    text = card({"llama-0": facts(), "rwkv5-0": rwkv, "rwkv5-0-early": rwkv | {"equals": "llama-0", "steps": 700, "tokens": 2_867_200}})
    assert "| `zoo-llama-0` | Llama | 0 | 6.14 M | 1.912 (1.877 to 1.949) |" in text
    assert "`zoo-rwkv5-0-early` is `zoo-rwkv5-0` after 700 of 1,500 steps" in text
    assert "1,833,312 to 1,850,000 parameters (0.9 % apart)" in text
    assert "that is so for Llama (1 seed) and RWKV-5.2 (1 seed): say “these models”" in text
    assert "The text has 4.9 M tokens: it is read 1.25 times." in text
    assert all(name in text for name in READ)
    assert "at equal loss" not in card({"llama-0": facts()})


def test_card_with_three_seeds_has_no_word_of_caution_about_them() -> None:
    assert "fewer than 3 seeds" in card({f"llama-{seed}": facts(seed=seed) for seed in range(2)})
    assert "fewer than 3 seeds" not in card({f"llama-{seed}": facts(seed=seed) for seed in range(3)})


def test_card_without_intervals() -> None:
    few = facts(held_out={"bits_per_byte": 1.9, "low": None, "high": None, "documents": 5, "tokens": 1275})
    assert "1.900 (no interval below 12 documents)" in card({"llama-0": few})


# commands


def test_errors_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(StrataError, match=r"unknown architecture 'lama': did you mean llama"):
        train("lama", 0, 1, tmp_path)
    for seed, steps in ((-1, 1), (0, 0)):
        with pytest.raises(StrataError, match="at least one step"):
            train("llama", seed, steps, tmp_path)
    with pytest.raises(SystemExit, match="error: no training in"):
        main(["--release", "--out", str(tmp_path)])


@needs_texts
@pytest.mark.long
def test_from_the_command_line_to_a_released_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    main(["--model", "llama", "--steps", "2", "--out", str(tmp_path / "out")])
    monkeypatch.setattr(release, "DOCUMENTS", 12)
    release.release(tmp_path / "out", tmp_path / "zoo")
    assert load(tmp_path / "zoo" / "llama-0").spec.name == "llama-0"
    tokens = json.loads((tmp_path / "zoo" / "zoo.json").read_text())["models"]["llama-0"]["train_tokens"]
    assert 4e6 < tokens < 6e6
    with pytest.raises(StrataError, match="not what the models were trained on"):
        release.train_tokens({"data": "another"})
    assert "zoo-llama-0" in (tmp_path / "zoo" / "README.md").read_text()


# what is committed


@pytest.mark.skipif(not RELEASED, reason="adapters/zoo holds no models yet: run `make zoo`")
class TestReleased:
    def test_files_and_card_agree(self) -> None:
        assert set(RELEASED) == {path.parent.name for path in ZOO.glob("*/config.json")}
        assert set(zoo()) == {f"zoo-{name}" for name in RELEASED}
        assert (ZOO / "README.md").read_text() == card(RELEASED)
        files = {path.read_bytes() for path in ZOO.rglob("*") if path.is_file()}
        assert sum(map(len, files)) <= release.LIMIT * 1e6, "equal files count once, as they do in a repository"
        sizes = [m["n_params"] for m in RELEASED.values()]
        assert max(sizes) / min(sizes) < 1.01

    def test_equal_tokens_of_equal_text(self) -> None:
        for key in ("data", "tokenizer", "of_steps"):
            assert len({m[key] for m in RELEASED.values()}) == 1
        assert len({m["tokens"] for m in RELEASED.values() if not m["equals"]}) == 1

    @pytest.mark.parametrize("name", RELEASED)
    def test_reads_better_than_two_bits_a_byte(self, name: str) -> None:
        if not RELEASED[name]["equals"]:
            assert RELEASED[name]["held_out"]["bits_per_byte"] <= 2.0

    @needs_texts
    @pytest.mark.long
    @pytest.mark.parametrize("name", RELEASED)
    def test_figures_come_from_these_weights(self, name: str) -> None:
        model, said = load(f"zoo-{name}", device="cpu"), RELEASED[name]
        assert model.spec.source_hash == said["weights"]
        interval, tokens = release.held_out(model)
        figures = said["held_out"]
        assert tokens == figures["tokens"]
        assert list(interval) == pytest.approx([figures[key] for key in ("bits_per_byte", "low", "high")], rel=1e-4)


@needs_texts
def test_what_the_card_says_was_read_is_what_the_corpus_holds() -> None:
    from analysis.data.sources import PROSE

    assert {file.split("/")[0] for file, _ in PROSE} == set(READ)
