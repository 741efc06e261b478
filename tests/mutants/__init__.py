"""Tests of the tests: small faults are put into the code, one at a time, and the tests must catch them.

    python -m tests.mutants --count 500            # over engine, functional, optimizers, networks and torch
    python -m tests.mutants --exact --count 500    # vjps and kernels, under the exact tests alone
    python -m tests.mutants --again mutants.jsonl  # those that survived a run

A mutant exchanges an operator, a comparison, a constant or an instruction, drops a statement or turns a
condition. Tests are collected once; each mutant has a child process, in which the functions of a module get
the code of the mutant, so that the tree itself is never touched. Where a fault is none of a function's code
but of what happens at import, its tests run in a copy of the tree. Both have a limit on processor time. What
survives is printed with its diff. Mutants that no result can show are listed, with the reason, in
tests/data/equivalent_mutants.txt.
"""
