"""ONE-PIC's canvas: several panels in one picture, some of which are painted while the others are only looked at. No torch."""
