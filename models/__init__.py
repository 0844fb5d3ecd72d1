"""The models: folders of weights, the video generator, the captioner."""
