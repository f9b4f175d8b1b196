"""The rules of Tongban as pure functions and values: what a log is, who may state what, what a case has become.

May import: the standard library's data modules, `cryptography` (in `keys`), `msgpack` and `zstandard` (in `codec`) and
`msgspec` (typed reading). Never: asyncio, sockets, files, clocks, randomness, logging; time, entropy and bytes come in as
arguments. Start reading at `log` (what is signed), then `register` (who may), then `cases` (what follows from it).
"""
