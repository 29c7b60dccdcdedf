"""The studio's views. Each module has `page(project)`, which builds the view into the current page."""
