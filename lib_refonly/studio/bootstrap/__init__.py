"""Sets up the studio's own Python environment. Standard library only: it runs before anything is installed."""
