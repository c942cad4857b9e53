//! Lines for the person at the terminal.

/// `println!` that does not panic when the reader has gone (`… | head`): what runs must still be stopped in order.
macro_rules! say {
    ($($format:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($format)*);
    }};
}
pub(crate) use say;
