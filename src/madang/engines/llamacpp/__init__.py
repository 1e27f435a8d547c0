"""llama.cpp (https://github.com/ggml-org/llama.cpp, through xllamacpp) in a process of its own.

    engine.py    Request -> prompt, in our templates and tokens -> pieces of text -> events, in our dialects
    wire.py      what llama.cpp's server is sent, and what it cannot honour
    process.py   the child process: started, watched, started again
    child.py     what runs in it

It imports nothing here, so that the child stays light.
"""
