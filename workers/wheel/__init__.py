"""The wheel gate: reads a wheel as a stranger would hand it over, and says whether it may leave.

| room | is for |
|---|---|
| checks | every check: its id, what it means, what to do about it |
| expectations | what the caller demands of this wheel |
| bounds | how much of anything a wheel may make us read |
| archive, names | the zip file itself: one meaning for every reader, names safe to unpack |
| contents | one pass over the members: hashes, kinds, libraries |
| native, elf, pe | what a loader would read in a library |
| identity, metadata, record | file name and tags, METADATA, RECORD |
| platform | what a platform tag promises (PEP 600) |
| subject | a wheel as the rules see it |
| linux, windows, libraries, symbols | what is demanded of the libraries |
| rules, install, verify | which check runs when, and the verdict |
| report, command | table, JSON, command line |
| manifest, provenance | the JSON that travels with the wheel, and what it was built from |
| beside | whether a manifest is that of the wheel that it lies beside |
"""
