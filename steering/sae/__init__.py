"""Sparse autoencoders: loading, training and describing them, and what their features mean."""
