"""The generator: a causal video diffusion transformer, its cache, its codecs."""
