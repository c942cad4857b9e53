//! The book on disk: one JSON file, replaced whole, so that a crash leaves the old or the new one and never half of it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::book::{Book, MAX_BYTES};

/// An absent file is an empty book; one that cannot be read is an error, not a fresh start.
pub fn load(path: &Path) -> io::Result<Book> {
    let told =
        |error: &dyn std::fmt::Display| io::Error::other(format!("{}: {error}", path.display()));
    match fs::metadata(path) {
        // Twice the bound, for what stands around the incidents.
        Ok(file) if file.len() > 2 * MAX_BYTES as u64 => {
            Err(told(&"it is larger than any that is written here"))
        }
        Ok(_) => serde_json::from_slice(&fs::read(path)?).map_err(|error| told(&error)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Book::default()),
        Err(error) => Err(told(&error)),
    }
}

/// Returns when the bytes are on the disk.
pub fn save(path: &Path, book: &Book) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(directory)?;
    let fresh: PathBuf = path.with_extension("new");
    let mut file = File::create(&fresh)?;
    file.write_all(&serde_json::to_vec(book)?)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    // The new name stands in the directory, which is written apart from the file.
    File::open(directory)?.sync_all()
}
