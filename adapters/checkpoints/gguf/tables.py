"""What the names in a GGUF file stand for, as llama.cpp reads them: tensors, header keys, and how text is split before it is merged."""

from __future__ import annotations

from typing import NamedTuple

INTERLEAVED = ("llama",)  # architectures whose rotary pairs are neighbours, in Hugging Face's layout they are halves
ARCHITECTURES = ("llama", "qwen2", "qwen3")
CLASSES = {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "qwen3": "Qwen3"}  # of transformers, by model_type

MODEL = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
BLOCK = {  # blk.{i}.NAME.weight or .bias
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
ROPE_FREQS = "rope_freqs.weight"  # what the frequency of each pair is divided by
SCALINGS = ("none", "linear", "yarn")

USED = frozenset({  # after "ARCHITECTURE.": what the configuration is made of
    "block_count", "context_length", "embedding_length", "feed_forward_length", "vocab_size",
    "attention.head_count", "attention.head_count_kv", "attention.key_length", "attention.value_length",
    "attention.layer_norm_rms_epsilon", "attention.scale", "attention.sliding_window",
    "rope.dimension_count", "rope.freq_base", "rope.scale_linear", "rope.scaling.type", "rope.scaling.factor",
    "rope.scaling.original_context_length", "rope.scaling.yarn_beta_fast", "rope.scaling.yarn_beta_slow",
})  # fmt: skip
NEUTRAL: dict[str, tuple[object, ...]] = {  # after "ARCHITECTURE.": values with which a key changes nothing
    "attention.causal": (True,),
    "attention.clamp_kqv": (0,),
    "attention.max_alibi_bias": (0,),
    "attn_logit_softcapping": (0,),
    "embedding_scale": (0, 1),
    "expert_count": (0,),
    "expert_used_count": (0,),
    "final_logit_softcapping": (0,),
    "leading_dense_block_count": (0,),
    "logit_scale": (0, 1),
    "nextn_predict_layers": (0,),
    "pooling_type": (0, 1, 2, 3, 4),  # of embeddings of whole texts, not of the next token
    "residual_scale": (0, 1),
    "rope.scaling.alpha": (0,),
    "rope.scaling.attn_factor": (1,),
    "rope.scaling.finetuned": (False, True),  # says where the scaling is from, not what it is
    "rope.scaling.yarn_attn_factor": (1,),
    "rope.scaling.yarn_ext_factor": (1,),
    "rope.scaling.yarn_log_multiplier": (0,),
    "tensor_data_layout": ("Meta AI original pth",),  # the only one that there is
    "use_parallel_residual": (False,),
}
GENERAL: dict[str, tuple[object, ...]] = {"general.type": ("model",), "general.quantization_version": (2,)}
TOKENIZER = "tokenizer."
DESCRIPTIONS = ("general.", "quantize.", "imatrix.", "split.", "mradermacher.")  # beginnings of keys that describe the file

# Tokenizers
TOKENIZER_USED = frozenset({  # after "tokenizer.ggml."
    "model", "pre", "tokens", "token_type", "scores", "merges", "bos_token_id", "eos_token_id", "unknown_token_id", "padding_token_id",
    "add_bos_token", "add_eos_token", "add_space_prefix",
})  # fmt: skip
TOKENIZER_HARMLESS = frozenset({  # tokens for chats and editors, and for pairs of texts
    "eot_token_id", "eom_token_id", "seperator_token_id", "mask_token_id", "cls_token_id", "add_sep_token", "token_type_count",
    "prefix_token_id", "suffix_token_id", "middle_token_id", "fim_pre_token_id", "fim_suf_token_id", "fim_mid_token_id",
    "fim_pad_token_id", "fim_rep_token_id", "fim_sep_token_id",
})  # fmt: skip
BESIDE_VOCABULARY = ("tokenizer.chat_template", "tokenizer.huggingface.json")  # beginnings of keys that no text is cut by
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)  # tokenizer.ggml.token_type


class Split(NamedTuple):
    """How a byte-level vocabulary cuts a text into words: each pattern cuts on, between the pieces of the one before."""

    patterns: tuple[str, ...]
    whole_words: bool = False  # a word that is a token needs no merges
    adds_bos: bool = False  # where tokenizer.ggml.add_bos_token does not say it
    normalised: bool = False  # to NFC, by the tokenizer that the model was trained with


_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_CLITICS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_QWEN2 = _CLITICS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA3 = _QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_TEKKEN = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_CODER = (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", r"[一-龥ࠀ-一가-퟿]+", r"\p{N}")

SPLITS = {  # by tokenizer.ggml.pre; the patterns are those of the models' own tokenizers
    "qwen2": Split((_QWEN2,), normalised=True),
    "tekken": Split((_TEKKEN,), whole_words=True, adds_bos=True),
    "deepseek-coder": Split(_CODER),
}
SPLITS |= dict.fromkeys(
    ("gpt-2", "phi-2", "gigachat", "a.x-4.0", "mellum", "exaone4", "mpt", "olmo", "jais", "trillion", "granite-docling"), Split((_GPT2,))
)
SPLITS |= dict.fromkeys(
    ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"),
    Split((r"\p{N}", _GPT2)),
)
SPLITS |= dict.fromkeys(
    ("llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"),
    Split((_LLAMA3,), whole_words=True, adds_bos=True),
)
SPLITS |= dict.fromkeys(("smaug-bpe", "dbrx"), Split((_LLAMA3,)))
SPLITS |= dict.fromkeys(("deepseek-r1-qwen", "stablelm2", "megrez", "kormo", "hunyuan", "solar-open"), Split((_QWEN2,)))
