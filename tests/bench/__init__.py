"""The benchmarks: arbstr beside bare mitmdump and beside its peers, always in one run."""
