"""Our tables in Buildbot's database: their definition, their migrations, and what is read and written."""
