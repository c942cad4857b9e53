//! The demos: each shows one kind of signal at work, and has a twin that fails.
pub mod cpu;
pub mod lock;
pub mod logs;
pub mod memory;
pub mod work;
