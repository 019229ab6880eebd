# Targets of the bundled cluster; NODES=2 starts a second node.
.PHONY: cluster-up cluster-down cluster-shell cluster-status cluster-build images

cluster-up: setup ## start the bundled cluster (NODES=2 for a second node)
	@$(PYTHON) -m e2e.cluster up

cluster-down: setup ## end the bundled cluster and remove its traces
	@$(PYTHON) -m e2e.cluster down

cluster-shell: setup ## a shell in which kubectl, helm and ctr reach the bundled cluster
	@$(PYTHON) -m e2e.cluster shell

cluster-status: setup ## nodes, components, uptime and memory of the bundled cluster
	@$(PYTHON) -m e2e.cluster status

cluster-build: setup ## compile Kubernetes and make the images, without starting anything
	@$(PYTHON) -m e2e.cluster build

images: setup ## make the images that changed and load them into the running cluster
	@$(PYTHON) -m e2e.cluster images
