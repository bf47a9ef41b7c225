"""Drawings in many styles, for training and measuring stylecodes: one content in every style, one style on every content."""
