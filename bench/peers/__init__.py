"""This project beside `steering-vectors` and `repeng`, on one model and the same pairs: `tox -e peers`.

The one needs transformers < 5, the other numpy < 2. They run in an environment of their own, and this side exchanges
files with them: JSON and safetensors. Their interpreter imports `exchange`, `peer_model` and its `run_` module from
here, and nothing of `steering`.

What their sources say, and the comparison confirms:

- `steering-vectors`' layer k is the output of block k, as here.
- `repeng`'s layer k is `hidden_states[k + 1]`: the output of block k, but for the last layer, where transformers gives
  what follows the model's final norm.
- `repeng`'s `pca_center` moves the two sides of each pair to their middle. What is left is plus and minus half the
  difference, whose mean is zero, so that scikit-learn's own centring does nothing: an uncentred PCA of the differences.
- A directory that transformers 5 wrote is read by transformers 4 without complaint and with another rope_theta: see
  `model_directory`.
"""
