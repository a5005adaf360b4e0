//! Holdfast: see ARCHITECTURE.md.
