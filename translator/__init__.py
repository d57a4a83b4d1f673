"""The binary translator: guest bytes in, code fragments out.  Pure, and imports nothing of ours."""
