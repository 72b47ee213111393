"""Diffusion and score models: data dissolve in noise step by step, and a score leads the way back (thesis 2.4)."""
