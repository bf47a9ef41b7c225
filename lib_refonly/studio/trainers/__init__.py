"""Installing trainers that live in environments of their own."""
