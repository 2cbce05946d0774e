"""What tables hold, in a few sentences each: for whoever sees one without the documents."""

from __future__ import annotations

#: Title of the table that compares cells with the mean difference.
IMPROVEMENTS = "Improvements on the mean difference"

#: Title -> caption.
CAPTIONS = {
    "Cells": "Every configuration, with 95 % intervals. P(success): share of rollouts with a keyword. p: one-sided, "
    "paired with the unsteered rollouts; p control: paired with those of the method's control. Both are adjusted by "
    "Holm's method where the heading says so; those of controls are in parentheses, unadjusted. norm: length of the "
    "added vector. Δ loss: steered minus unsteered, nats per token.",
    "Doses": "Each method at the largest of a set of multipliers whose loss on neutral development documents stays "
    "within one budget. optimism: how much more it costs on the test documents than on those.",
    "Selection": "The layer and dose that the development split chooses, and what they reach on the test split. Only "
    "“P test” is a result: “best on test” was chosen on the data that it is reported on.",
    IMPROVEMENTS: "Each cell against the dose of mean_difference at its layer that it comes nearest to improving on, "
    "or, where it improves on none and some dominate it, that dominates it most clearly: how much higher its "
    "P(success) and its neutral loss are. improves: the first is higher and the second lower, both by paired tests; "
    "p, the larger of the two, is adjusted by Holm's method over all such comparisons. dominated: the reverse.",
    "Controls": "Each cell with its controls. Null cells are controls of the same construction at any layer, which are "
    "taken to be alike. p empirical: how many of them, the cell itself among them, reach its P(success); it is of one "
    "cell alone, not adjusted, and cannot be below 1 / (1 + their number).",
    "Neutral documents": "The change of loss over neutral documents, nats per token: its mean, the one-sided 95 % "
    "upper bound of the mean, and the documents that suffer most.",
    "Separation of test pairs": "What steering adds to loss(negative) − loss(positive) of each test pair. wrong way: "
    "the share of pairs for which that is below 0. slope per ×: how much it rises with each unit of the multiplier.",
    "Cells on the development split": "The same configurations on the split for choosing layers and doses. No result "
    "is reported from it.",
    "Sparse autoencoders": "How much of its input each autoencoder preserves, on the neutral documents.",
    "Not measured": "Cells of which something could not be measured, and why.",
    "Features": "The three features with the largest weights in each vector that is a sum of features.",
}
