"""Everything on one machine: a master, its local workers and, for the quickstart, a repository to play with."""
