"""How the bundled models were made: the rendered world, its captions, and one script a stage."""
