"""From tables to sentences, figures, the page and the terminal. The only room that knows how things look."""
