"""The translation cache: code memory, the index of fragments, chaining, page links and eviction."""
