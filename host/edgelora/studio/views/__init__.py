"""The studio's views. Each module has `page(desk)`, which builds the view into the current page."""
