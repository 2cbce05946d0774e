"""Writing concepts with a chat model."""
