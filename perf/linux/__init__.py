"""The Linux guest of the macrobenchmarks: a first process that does what it is told, and BusyBox."""
