//! In-memory capture of what is emitted, for assertions.
