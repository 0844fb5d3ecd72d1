"""What people touch: the command line, the Python API, files of video."""
