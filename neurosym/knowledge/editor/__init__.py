"""What an editor asks about knowledge files: mistakes, the meaning of a word, what could stand here, where a thing is declared.

    document.py   a text and its places              rulefile.py  a rule file while it is being typed
    project.py    which ontology belongs to a file   server.py    the Language Server Protocol, spoken over pygls

The other modules answer one request each. Nothing outside this package imports it but `neurosym.knowledge.lsp`, so that
pygls is loaded only when a server is wanted.
"""
