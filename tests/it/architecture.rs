//! The map of the house, as a table.
