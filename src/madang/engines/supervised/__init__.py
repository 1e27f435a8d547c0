"""supervised: servers of others (vLLM, llama-server), started for one model, ended with us, asked as remote ones.

    engine.py   a model's files -> a command on a free port -> wait until it is ready -> RemoteEngine
    warden.py   the process between: it gives the server its limits, and ends it when we end, however we do

It imports nothing here, so that the warden stays light.
"""
