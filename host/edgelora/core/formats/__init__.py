"""Reading and writing file formats: networks, models, adapters, samples, bundles."""
