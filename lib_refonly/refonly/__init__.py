"""Method 1, Stable Diffusion Reference Only: a reference picture and a line drawing in, the coloured drawing out."""
