"""The process of `steering-vectors`."""

from __future__ import annotations

import time

import torch
from steering_vectors import SteeringVector, train_steering_vector

from bench.peers import peer_model
from bench.peers.exchange import Findings, Job, probe, serve

# repeng's default, and faster than the default of 1 here.
_BATCH = 32


def measure(job: Job) -> Findings:
    """Train its mean-difference vector at every layer, then time the sweep."""
    module, tokenizer = peer_model.load(job)
    pairs = [pair.texts for pair in job.pairs]

    def train(layers: list[int]) -> SteeringVector:
        return train_steering_vector(module, tokenizer, pairs, layers, move_to_cpu=True, batch_size=_BATCH)

    trained = train(job.every_layer)
    tensors = {
        "vectors": torch.stack([trained.layer_activations[layer] for layer in job.every_layer]),
        "logits": peer_model.logits(module, tokenizer, job),
    }
    losses = []
    for layer, multiplier in job.configurations:
        probing = SteeringVector({layer: probe(module.config.hidden_size)}, trained.layer_type)
        with probing.apply(module, multiplier=multiplier):
            losses.append(peer_model.loss(module, tokenizer, job))
    tensors["steered_losses"] = torch.stack(losses)
    peer_model.sample(module, tokenizer, job, new_tokens=2)

    torch.manual_seed(job.seed)
    start = time.perf_counter()
    vector = train(list(job.steered_layers))
    constructed = time.perf_counter()
    for layer, multiplier in job.configurations:
        at_layer = SteeringVector({layer: vector.layer_activations[layer]}, vector.layer_type)
        with at_layer.apply(module, multiplier=multiplier):
            peer_model.sample(module, tokenizer, job, job.new_tokens)
    end = time.perf_counter()
    return Findings(tensors, peer_model.token_ids(tokenizer, job), constructed - start, end - constructed)


if __name__ == "__main__":
    serve("steering-vectors", measure)
