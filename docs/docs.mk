.PHONY: docs
docs: crds ## write the reference pages that are derived from code and chart
	$(PYTHON) -m docs.generate
