"""A training set from a folder of pictures (section 3.2 of the paper, made to scale): cleaned, paired, and packed into shards."""
