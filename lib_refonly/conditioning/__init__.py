"""WHAT is injected into a UNet: plans. Pure torch; knows no host, no model file and no page."""
