"""Adapters: image prompts beside the text, on a checkpoint that stays as it is."""
