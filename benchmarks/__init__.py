"""Measure fconv in time and memory beside PyTorch, JAX and simpler ways: ``python -m benchmarks -h``.

``table`` says what is measured; ``libraries`` how each library computes it; ``worker`` is the process
that a library runs in, ``conductor`` what tells the workers in turn, ``measure`` what is asked of them;
``report``, ``plots`` and ``page`` show the results.
"""
