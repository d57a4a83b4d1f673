"""Virtual hardware: one chip a file.  Nothing here knows the CPU or the VMM."""
