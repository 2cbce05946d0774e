"""The model as both other libraries use it: transformers' own, and its `generate`."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer

from bench.peers.exchange import Job


def load(job: Job) -> tuple[Any, Any]:
    """Load model and tokenizer, in float32 on the CPU as all libraries here."""
    module = AutoModelForCausalLM.from_pretrained(job.model_directory, dtype=torch.float32, use_safetensors=True)
    return module.eval(), AutoTokenizer.from_pretrained(job.model_directory)


def token_ids(tokenizer: Any, job: Job) -> list[list[int]]:
    """Token ids of the job's texts."""
    return [list(tokenizer(text)["input_ids"]) for text in job.texts]


@torch.inference_mode()
def logits(module: Any, tokenizer: Any, job: Job) -> torch.Tensor:
    """Next-token logits `[vocab]` after the first text."""
    return module(**tokenizer(job.texts[0], return_tensors="pt")).logits[0, -1]


@torch.inference_mode()
def loss(model: Any, tokenizer: Any, job: Job) -> torch.Tensor:
    """Mean loss of the first text's tokens after the first, with whatever steers the model at present."""
    ids = tokenizer(job.texts[0], return_tensors="pt")["input_ids"]
    return functional.cross_entropy(model(input_ids=ids).logits[0, :-1], ids[0, 1:])


def sample(model: Any, tokenizer: Any, job: Job, new_tokens: int) -> torch.Tensor:
    """Sample all rollouts of one configuration in one batch, with whatever steers the model at present."""
    return model.generate(
        **tokenizer(job.prompt, return_tensors="pt"),
        do_sample=True,
        top_p=job.top_p,
        top_k=0,
        temperature=1.0,
        num_return_sequences=job.rollouts,
        max_new_tokens=new_tokens,
        pad_token_id=tokenizer.pad_token_id,
    )
