include("manifest_stock.py")
include("../manifest.py")
