"""The laboratory: what the demo, the benchmarks and the end-to-end tests share, all of it through kubectl and Helm."""
