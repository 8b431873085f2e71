"""Mutation testing of the core: small faults put in by machine, each of which the fast tests must see.

    python -m mutation                          all of it, and the score
    python -m mutation lifecycle flows/many     the modules whose path has one of these words in it
    python -m mutation --share 1/8              a fixed sample of all

    operators   faults that mutmut does not make: in the table, in constants, in decorated functions; statements left out
    mutants     mutmut's and ours: each a key that stays when lines move, and the whole mutated source
    choice      which mutants of a sample are run, and which tests on each
    warm        a mutated function is put into a forked process that has all tests loaded; the tests of its lines are run
    cold        what is evaluated on import: the mutated module is imported anew, and its tests run
    equivalent.toml   mutants that no test can see, each with its reason

mutmut's own runner is not used: it makes nothing of module level code, and sees no function that works on import only.
"""
