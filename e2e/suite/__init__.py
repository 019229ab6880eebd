"""End-to-end tests: the chart by Helm, the resources by kubectl, real pods, real volumes, real PostgreSQL."""
