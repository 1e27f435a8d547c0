"""sources: where models come from, one file per place.

Each source checks what it brings and leaves it in its workspace; only the store moves it in.
"""
