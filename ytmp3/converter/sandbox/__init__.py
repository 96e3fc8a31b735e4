"""Child processes with limits on time, memory, files and network. Starts any program; knows nothing about YouTube."""
