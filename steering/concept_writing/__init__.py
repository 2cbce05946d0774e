"""Writing concepts with a chat model, and checking them."""
