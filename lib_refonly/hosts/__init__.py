"""HOW a plan gets into a UNet: one contract, one module a host. Knows no page."""
