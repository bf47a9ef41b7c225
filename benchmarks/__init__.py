"""What things cost: one UNet step beside its peers, a whole picture, a batch, the start, the imports.

`.venv/bin/python -m benchmarks` measures everything and writes docs/benchmarks.md and benchmarks/results/; `--help` says how to measure parts.
"""
