"""The commands of `studio.py`, one module a job. `cli.py` beside this package puts them together."""
