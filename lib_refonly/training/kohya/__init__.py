"""ONE-PIC inside sd-scripts: what runs in its environment, where of ours torch, safetensors and Pillow are all that may be needed."""
