"""The process of `repeng`."""

from __future__ import annotations

import time

import torch
from repeng import ControlModel, ControlVector, DatasetEntry

from bench.peers import peer_model
from bench.peers.exchange import Findings, Job, probe, serve


def measure(job: Job) -> Findings:
    """Train its `pca_center` vector at every layer, then time the sweep."""
    module, tokenizer = peer_model.load(job)
    pairs = [DatasetEntry(*pair.texts) for pair in job.pairs]

    def train(layers: list[int]) -> ControlVector:
        return ControlVector.train(module, tokenizer, pairs, hidden_layers=layers, method="pca_center")

    directions = train(job.every_layer).directions
    tensors = {
        "vectors": torch.stack([torch.from_numpy(directions[layer]) for layer in job.every_layer]),
        "logits": peer_model.logits(module, tokenizer, job),
    }
    losses = []
    for layer, multiplier in job.configurations:
        controlled = ControlModel(module, [layer])
        probing = ControlVector(module.config.model_type, {layer: probe(module.config.hidden_size).numpy()})
        controlled.set_control(probing, multiplier)
        losses.append(peer_model.loss(controlled, tokenizer, job))
        controlled.unwrap()
    tensors["steered_losses"] = torch.stack(losses)
    peer_model.sample(module, tokenizer, job, new_tokens=2)

    torch.manual_seed(job.seed)
    start = time.perf_counter()
    vector = train(list(job.steered_layers))
    constructed = time.perf_counter()
    for layer, multiplier in job.configurations:
        controlled = ControlModel(module, [layer])
        controlled.set_control(vector, multiplier)
        peer_model.sample(controlled, tokenizer, job, job.new_tokens)
        controlled.unwrap()
    end = time.perf_counter()
    return Findings(tensors, peer_model.token_ids(tokenizer, job), constructed - start, end - constructed)


if __name__ == "__main__":
    serve("repeng", measure)
