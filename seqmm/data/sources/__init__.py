"""Where interactions come from: one class a source, with its licence, its citation and its options."""
