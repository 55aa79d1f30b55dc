//! What the scraper serves: the state of its collectors, its health, and everything it pulled.
