"""Watch a video and ask about it: `python examples/watch.py talk.mp4 QWEN2.5-VL-FOLDER`."""

import sys

import longtake

with longtake.witness(*sys.argv[2:]) as witness, witness.watch(sys.argv[1]) as watch:
    watch.ask("what is moving?", at=2)
    for line in watch:
        print(f"{line.start:6.1f} s  {line.question} {line.text}".rstrip())
