"""Drawings that the small models learn from: the same character twice, with exact line art and captions."""
