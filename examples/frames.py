"""Frames as they come, to do with as you like: here a still of every fifth second."""

from PIL import Image

import longtake

with longtake.open() as model:
    take = model.take("a yellow star circles over the sea at sunset", seed=1)
    take.prompt("the star turns blue", at=5)
    for frame in take.frames(seconds=11):
        if frame.index % (5 * model.rate) == 0:
            Image.fromarray(frame.pixels).save(f"still_{frame.time:.0f}s.png")
            print(f"{frame.time:4.1f} s  {frame.prompt}")
