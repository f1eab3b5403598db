"""Checks of what the embeddings are worth."""
