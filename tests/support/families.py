"""Tiny random base models of many families, with tokenizers and chat templates in the forms that theirs have."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TEXT = [
    "The user has interacted with items, please recommend the next item that the user may like.",
    "You are a recommender. Think step by step, then answer with one product.\n\nStep 1: evidence. Step 2: intent.",
] * 4

CHATML = (
    "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
QWEN = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
CHATML_DEFAULT = (
    "{%- if messages[0].role != 'system' %}{{- '<|im_start|>system\\nDEFAULT<|im_end|>\\n' }}{%- endif %}" + CHATML
)
LLAMA3 = (
    "{{- bos_token }}{%- if messages[0]['role'] == 'system' %}{%- set told = messages[0]['content'] %}"
    "{%- set messages = messages[1:] %}{%- else %}{%- set told = '' %}{%- endif %}"
    "{{- '<|start_header_id|>system<|end_header_id|>\\n\\nCutting Knowledge Date: December 2023\\n"
    "Today Date: 26 Jul 2024\\n\\n' + told + '<|eot_id|>' }}"
    "{%- for message in messages %}{{- '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' + "
    "message.content + '<|eot_id|>' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}{% for message in messages %}{{ '<start_of_turn>' + ('model' if message.role == 'assistant' else "
    "message.role) + '\\n' + message.content | trim + '<end_of_turn>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
)
GEMMA3 = (
    "{{ bos_token }}{% set first = '' %}{% if messages[0]['role'] == 'system' %}"
    "{% set first = messages[0]['content'] + '\\n\\n' %}{% set messages = messages[1:] %}{% endif %}"
    "{% for message in messages %}{{ '<start_of_turn>' + ('model' if message.role == 'assistant' else message.role) + "
    "'\\n' + (first if loop.first else '') + message.content | trim + '<end_of_turn>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
)
LLAMA2 = (
    "{% set first = '' %}{% if messages[0]['role'] == 'system' %}"
    "{% set first = '<<SYS>>\\n' + messages[0]['content'] + '\\n<</SYS>>\\n\\n' %}{% set messages = messages[1:] %}"
    "{% endif %}{% for message in messages %}{% if message.role == 'user' %}{{ bos_token + '[INST] ' + "
    "(first if loop.first else '') + message.content + ' [/INST]' }}{% else %}"
    "{{ ' ' + message.content + ' ' + eos_token }}{% endif %}{% endfor %}"
)
MISTRAL = (
    "{{ bos_token }}{% set first = '' %}{% if messages[0]['role'] == 'system' %}"
    "{% set first = messages[0]['content'] + '\\n\\n' %}{% set messages = messages[1:] %}{% endif %}"
    "{% for message in messages %}{% if message.role == 'user' %}{{ '[INST] ' + (first if loop.first else '') + "
    "message.content + '[/INST]' }}{% else %}{{ ' ' + message.content + eos_token }}{% endif %}{% endfor %}"
)
PHI = (
    "{% for message in messages %}{{ '<|' + message.role + '|>\\n' + message.content + '<|end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)
OLMO = (
    "{{ eos_token }}{% for message in messages %}{{ '<|' + message.role + '|>\\n' + message.content + "
    "(eos_token if message.role == 'assistant' else '') + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)
GRANITE = (
    "{% for message in messages %}{{ '<|start_of_role|>' + message.role + '<|end_of_role|>' + message.content + "
    "'<|end_of_text|>\\n' }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_of_role|>assistant<|end_of_role|>' }}{% endif %}"
)
GLM4 = (
    "[gMASK]<sop>{% for message in messages %}{{ '<|' + message.role + '|>\\n' + message.content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
COHERE = (
    "{{ bos_token }}{% for message in messages %}{{ '<|START_OF_TURN_TOKEN|><|' + {'system': 'SYSTEM', 'user': 'USER', "
    "'assistant': 'CHATBOT'}[message.role] + '_TOKEN|>' + message.content + '<|END_OF_TURN_TOKEN|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>' }}{% endif %}"
)
ZEPHYR = (
    "{% for message in messages %}{{ '<|' + message.role + '|>\\n' + message.content + eos_token + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)


@dataclass(frozen=True)
class Family:
    """One family: its transformers model type, what its configuration needs, its tokenizer and its chat template."""

    name: str
    model_type: str
    jinja: str | None
    special: tuple[str, ...] = ()
    bos: str | None = None
    eos: str = "<|endoftext|>"
    metaspace: str | None = None
    """SentencePiece's way of putting a blank before words: ``always`` or ``first``; None: byte-level BPE."""
    config: dict[str, Any] = field(default_factory=dict)
    template: str | None = None
    """The template of LLaMA-Factory that must be found; None where the family is refused."""
    replaced: bool = False
    """Whether the chat template must be replaced by that one's."""
    choose: str | None = None
    """What is given as ``--template``."""


DEEPSEEK = (
    "{{ bos_token }}{% for message in messages %}{% if message.role == 'user' %}"
    "{{ 'User: ' + message.content + '\\n\\n' }}{% elif message.role == 'assistant' %}"
    "{{ 'Assistant: ' + message.content + eos_token }}{% else %}{{ message.content + '\\n\\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)

MLA = {
    "q_lora_rank": 16, "kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8,
    "num_key_value_heads": 4, "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32,
    "n_group": 1, "topk_group": 1,
}  # fmt: skip
IM = ("<|im_start|>", "<|im_end|>")
GEMMA_TOKENS = ("<start_of_turn>", "<end_of_turn>")
SMALL_MOE = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}

FAMILIES = [
    Family("Qwen3", "qwen3", CHATML, IM, eos="<|im_end|>", template="qwen3_nothink"),
    Family("Qwen2.5", "qwen2", CHATML_DEFAULT.replace("DEFAULT", QWEN), IM, eos="<|im_end|>", template="qwen"),
    Family("Qwen3-MoE", "qwen3_moe", CHATML, IM, eos="<|im_end|>", config=SMALL_MOE, template="qwen3_nothink"),
    Family("Llama 3.1", "llama", LLAMA3, ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|eom_id|>"),
           bos="<|begin_of_text|>", eos="<|eot_id|>", template="llama3", replaced=True),
    Family("Llama 2", "llama", LLAMA2, bos="<s>", eos="</s>", metaspace="always", template="llama2"),
    Family("Mistral", "mistral", MISTRAL, ("[INST]", "[/INST]"), bos="<s>", eos="</s>", metaspace="first",
           template="mistral", replaced=True),
    Family("Mixtral", "mixtral", MISTRAL, ("[INST]", "[/INST]"), bos="<s>", eos="</s>", config=SMALL_MOE,
           template="mistral", replaced=True),
    Family("Gemma 2", "gemma2", GEMMA, GEMMA_TOKENS, bos="<bos>", eos="<eos>", template="gemma", replaced=True),
    Family("Gemma 3", "gemma3_text", GEMMA3, GEMMA_TOKENS, bos="<bos>", eos="<eos>", template="gemma"),
    Family("Phi-3.5", "phi3", PHI, ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>"), template="phi"),
    Family("SmolLM2", "llama", CHATML_DEFAULT.replace(
        "DEFAULT", "You are a helpful AI assistant named SmolLM, trained by Hugging Face"), IM, eos="<|im_end|>",
        template="qwen3_nothink", replaced=True),
    Family("OLMo 2", "olmo2", OLMO),
    Family("Granite 3", "granite", GRANITE, ("<|start_of_role|>", "<|end_of_role|>"), eos="<|end_of_text|>",
           template="granite3"),
    Family("GLM-4", "glm4", GLM4, ("[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"),
           template="glm4", replaced=True),
    Family("Command R", "cohere", COHERE, ("<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>", "<|SYSTEM_TOKEN|>",
           "<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>"), bos="<BOS_TOKEN>", eos="<|END_OF_TURN_TOKEN|>", template="cohere"),
    Family("DeepSeek (MLA)", "deepseek_v2", DEEPSEEK, bos="<|begin|>", eos="<|end|>", config=MLA, template="deepseek"),
    Family("Zephyr", "mistral", ZEPHYR, eos="</s>"),
    Family("StableLM 2", "stablelm", ZEPHYR, template="zephyr", choose="zephyr", replaced=True),
    Family("BLOOM", "bloom", None, template="qwen3_nothink", replaced=True),
    Family("GPT-2", "gpt2", None, template="qwen3_nothink", replaced=True),
    Family("Pythia", "gpt_neox", None, template="qwen3_nothink", replaced=True),
    Family("OPT", "opt", None, bos="</s>", eos="</s>", template="qwen3_nothink", replaced=True),
    Family("Mamba", "mamba", None),
    Family("Falcon-Mamba", "falcon_mamba", None),
    Family("RWKV", "rwkv", None),
    Family("RecurrentGemma", "recurrent_gemma", GEMMA, GEMMA_TOKENS, bos="<bos>", eos="<eos>"),
    Family("Jamba", "jamba", None),
]  # fmt: skip


def make_family(folder: Path, family: Family) -> Path:
    """Write a tiny random model of ``family`` with its tokenizer in Hugging Face form."""
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    tokenizer = make_tokenizer(family)
    shape: dict[str, Any] = {
        "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 2048,
        "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": 0,
        "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 2048, "ffn_dim": 48, "word_embed_proj_dim": 32,
        "state_size": 4, "attention_hidden_size": 32, "context_length": 2048, "lru_width": 32, "mamba_d_state": 4,
        **family.config,
    }  # fmt: skip
    config = CONFIG_MAPPING[family.model_type]()
    known = config.to_dict()
    made = type(config)(**{key: value for key, value in shape.items() if key in known or key in family.config})
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(made).float().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_tokenizer(family: Family) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    unknown = "<unk>" if family.metaspace else None
    tokenizer = Tokenizer(models.BPE(byte_fallback=bool(unknown), unk_token=unknown))
    named = [token for token in (unknown or "<|pad|>", family.bos, family.eos) if token]
    special = list(dict.fromkeys([*named, *family.special]))
    alphabet: list[str] = []
    if family.metaspace:  # SentencePiece's way: Llama 2, Mistral
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=family.metaspace, split=False)
        tokenizer.decoder = decoders.Sequence(
            [decoders.ByteFallback(), decoders.Metaspace(prepend_scheme=family.metaspace)]
        )
        special += [f"<0x{byte:02X}>" for byte in range(256)]
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=500, min_frequency=2, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    more: dict[str, Any] = {"bos_token": family.bos} if family.bos else {}
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=family.eos, **more)
    made.chat_template = family.jinja
    return made
