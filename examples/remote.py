"""Steer a take on another machine: `python examples/remote.py ws://127.0.0.1:7860 [TOKEN]`."""

import sys

from PIL import Image

import longtake

with longtake.connect(sys.argv[1], token=(*sys.argv[2:], None)[0]) as session:
    session.open("a red ball bounces on green grass on a sunny day", seed=7)
    for prompt in ("night falls and it starts to snow", "the sun rises"):
        for frame in session.frames(seconds=4):
            print(f"{frame.time:5.2f} s  {frame.prompt}")
        Image.fromarray(frame.pixels).save(f"still_{frame.time:.0f}s.png")
        session.prompt(prompt)
    session.save("remote.mp4")
    print(*session.receipts, sep="\n")
