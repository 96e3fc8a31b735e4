"""Child processes with limits on time, memory, files and network; it can start any program and knows no YouTube."""
