"""The valley: the rendered world that the bundled model is trained on.

`world` says what a scene is and draws scenes at random; `moments` says what every frame of a film
looks like, in closed form; `film` paints it; `captions` puts it into words.
"""
