"""Generative adversarial networks: a generator that is trained against a critic (thesis 2.5)."""
