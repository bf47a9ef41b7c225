"""Trainers, their one loop, and the drawings they learn from."""
