"""Child processes with limits on time, memory, files and network. Independent of YouTube: it can run any program."""
