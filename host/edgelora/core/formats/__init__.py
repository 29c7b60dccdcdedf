"""Files as bytes: networks, models, adapters, samples, bundles."""
