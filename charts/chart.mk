.PHONY: chart
chart: crds ## copy the CRDs into the chart and render its golden files anew (needs helm: make cluster-up)
	cp crds/*.yaml charts/headroom/files/crds/
	$(PYTHON) -m tests.chart.helm
