"""What the studio shows. Each view has `page(desk)`, which builds it into the page that asks for it."""
