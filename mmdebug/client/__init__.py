"""The client's side of live attach: find who listens, connect, ask. `mmdebug.connect` is all that most need."""
