"""Training jobs: processes that outlive the page, told by their folder alone, so that any program sees the same."""
