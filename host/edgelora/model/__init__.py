"""From data to an INT8 base: data sets, float networks, quantization, importers."""
