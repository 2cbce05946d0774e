"""Language models: loading, reading, steering and sampling them."""
